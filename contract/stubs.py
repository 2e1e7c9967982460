"""Loads TensorFlow Serving's protobuf stubs without importing TensorFlow.

`tensorflow_serving.apis.predict_pb2` imports `tensorflow.core.framework.tensor_pb2`, and that runs the whole of
`tensorflow/__init__.py`: seconds and hundreds of megabytes for message classes that need none of it. While the stubs
load, Python is therefore given a bare package named `tensorflow` whose `__path__` is the installed package's folder.
Afterwards every `tensorflow*` entry is taken back out of `sys.modules`, so that a later `import tensorflow` finds a
clean slate; protobuf registers the same file twice without complaint and hands out the same message classes.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType

# The modules that the project uses; scripts/extract_stubs.py reads this list to copy them into images.
STUB_MODULES = (
    "tensorflow.core.framework.tensor_pb2",
    "tensorflow.core.framework.tensor_shape_pb2",
    "tensorflow.core.framework.types_pb2",
    "tensorflow.core.protobuf.meta_graph_pb2",
    "tensorflow.core.protobuf.saved_model_pb2",
    "tensorflow_serving.apis.get_model_metadata_pb2",
    "tensorflow_serving.apis.get_model_status_pb2",
    "tensorflow_serving.apis.model_management_pb2",
    "tensorflow_serving.apis.model_pb2",
    "tensorflow_serving.apis.model_service_pb2_grpc",
    "tensorflow_serving.apis.predict_pb2",
    "tensorflow_serving.apis.prediction_log_pb2",
    "tensorflow_serving.apis.prediction_service_pb2_grpc",
    "tensorflow_serving.config.model_server_config_pb2",
)


def import_stubs() -> dict[str, ModuleType]:
    """Import STUB_MODULES, without TensorFlow unless it is loaded already.

    Returns:
        Each module by the last part of its name, such as "predict_pb2".

    Raises:
        ModuleNotFoundError: if tensorflow-serving-api or the tensorflow package (or the stubs extracted from them) is
            not installed.
    """
    if "tensorflow" in sys.modules:
        return _import_all()
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError("no package 'tensorflow' to read message definitions from", name="tensorflow")
    bare = ModuleType("tensorflow")
    bare.__path__ = list(spec.submodule_search_locations)
    sys.modules["tensorflow"] = bare
    try:
        return _import_all()
    finally:
        for name in [name for name in sys.modules if name == "tensorflow" or name.startswith("tensorflow.")]:
            del sys.modules[name]


def _import_all() -> dict[str, ModuleType]:
    return {name.rpartition(".")[2]: importlib.import_module(name) for name in STUB_MODULES}
