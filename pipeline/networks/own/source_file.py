"""A user's Python file that builds a network: read once, run, its errors named by line."""

from __future__ import annotations

import difflib
import inspect
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from contract.files.regular import read_regular
from pipeline.errors import RecipeError
from pipeline.networks.own.keras_message import keras_message

_MODULE = "fovea_own_network"


class SourceFile:
    """A file with a function `build(input_shape, num_classes) -> keras.Model`.

    Args:
        path: of the file, from the working directory.
        function: its name.

    Attributes:
        path: of the file.
        content: its bytes.

    Raises:
        RecipeError: if it cannot be read.
    """

    def __init__(self, path: str, function: str) -> None:
        self.path = Path(path)
        self._function = function
        try:
            self.content: bytes = read_regular(self.path)
        except OSError as err:
            raise RecipeError(f"model.backbone: {path} cannot be read: {err.strerror or err}{self._nearest()}") from err

    @property
    def function_name(self) -> str:
        """The file's name and the function's."""
        return f"{self.path.name}:{self._function}"

    def build(self, shape: tuple[int, int, int], num_classes: int) -> Any:
        """Run the file and call its function.

        Raises:
            RecipeError: if the file has no such function.
            Exception: whatever the file raises; `explained` words it.
        """
        module = ModuleType(_MODULE)
        module.__file__ = str(self.path)
        sys.modules[_MODULE] = module  # Keras and dataclasses look up classes by module
        exec(compile(self.content, str(self.path), "exec"), module.__dict__)  # a file of the user's own
        build = getattr(module, self._function, None)
        if not callable(build):
            own = [name for name, value in vars(module).items() if inspect.isfunction(value)]
            near = difflib.get_close_matches(self._function, own, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the file's functions are {', '.join(own) or 'none'}"
            raise RecipeError(f"model.backbone: {self.path.name} has no function {self._function}: {hint}")
        try:
            inspect.signature(build).bind(shape, num_classes)
        except TypeError as err:
            line = build.__code__.co_firstlineno if inspect.isfunction(build) else 1
            raise RecipeError(
                f"model.backbone: {self.path.name} line {line}: {self._function} is called with input_shape and "
                f"num_classes: {err}"
            ) from err
        return build(shape, num_classes)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Word what the file raises as one line that names the file's own line."""
        try:
            yield
        except RecipeError:
            raise
        except SyntaxError as err:
            if err.filename != str(self.path):
                raise RecipeError(self._word(err)) from err
            raise RecipeError(f"model.backbone: {self.path.name} line {err.lineno}: {err.msg}") from err
        except (Exception, SystemExit) as err:
            raise RecipeError(self._word(err)) from err

    def _word(self, err: BaseException) -> str:
        frames = traceback.extract_tb(err.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(self.path)]
        place = f" line {lines[-1]}" if lines else ""
        hint = ""
        if isinstance(err, ModuleNotFoundError) and self.path.with_name(f"{err.name}.py").exists():
            hint = "; a network is one file: put the code of that one into it"
        return f"model.backbone: {self.path.name}{place}: {type(err).__name__}: {keras_message(err)}{hint}"

    def _nearest(self) -> str:
        try:
            names = [path.name for path in self.path.parent.iterdir() if path.suffix == ".py"]
        except OSError:
            return ""
        near = difflib.get_close_matches(self.path.name, names, n=1)
        return f"; did you mean {self.path.with_name(near[0])}?" if near else ""
