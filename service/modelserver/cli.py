"""Runs the model server's process: logging, exit status, TensorFlow's log level."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence

from engine.runtimes.tensorflow_start import quiet_tensorflow
from service.logs import asks_for_information, fail, set_up_logging, wanted_format
from service.modelserver.config import check_first_config
from service.modelserver.errors import BindError, ConfigSyntaxError, RequestError
from service.modelserver.options import Options, parse_options
from service.modelserver.server import serve

_FAILED = "Failed to start server. Error:"


def main(argv: Sequence[str], prog: str = "modelserver") -> int:
    """Serve until told to stop; a wrong command line raises SystemExit(2), as argparse does.

    Args:
        argv: flags.
        prog: the command as it was typed, for the usage.

    Returns:
        Exit status: 0 stopped as asked, 1 could not serve (the reason is the last line of stderr).
    """
    if not asks_for_information(argv):  # help is text, and starts nothing that logs
        set_up_logging(wanted_format(argv, {}))
    quiet_tensorflow()
    options = parse_options(argv, prog)
    return run_checked(options, functools.partial(_serve, options))


def run_checked(options: Options, run: Callable[[], int]) -> int:
    """Check the file of models, then serve.

    Args:
        options: as the command line gives them.
        run: serves until told to stop; returns the exit status.

    Returns:
        What `run` returns, or 1 if it could not serve (the reason is the last line of stderr).
    """
    try:
        if options.model_config_file is not None:
            check_first_config(options.model_config_file, dict(options.path_map))
        return run()
    except BindError as err:
        fail("modelserver", f"modelserver: {err}")
    except ConfigSyntaxError as err:
        fail("modelserver", f"{err}\n{_FAILED} {err.code}: Invalid protobuf file: '{options.model_config_file}'")
    except RequestError as err:
        fail("modelserver", f"{_FAILED} {err.code}: {err}")
    return 1


def _serve(options: Options) -> int:
    asyncio.run(serve(options))
    return 0
