"""`python -m service.in_process`: gateway and model server in one process, as `python -m service up` starts them."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Sequence

from engine.runtimes.tensorflow_start import quiet_tensorflow
from service.gateway.cli import run_gateway
from service.gateway.context.settings import SettingsError, load_settings
from service.in_process.backend import InProcessBackend
from service.logs import fail, prepare_log
from service.modelserver.cli import run_checked
from service.modelserver.options import parse_options

_USAGE = "usage: python -m service.in_process [the model server's flags] -- [the gateway's flags]"


def main(argv: Sequence[str]) -> int:
    """Run both until SIGTERM or SIGINT.

    Args:
        argv: the model server's flags, "--", the gateway's flags.

    Returns:
        0 stopped as asked, 1 could not serve (the reason is the last line of stderr), 2 wrong use.
    """
    split = argv.index("--") if "--" in argv else len(argv)
    prepare_log(argv[split + 1 :], os.environ)
    quiet_tensorflow()
    try:
        options = parse_options(argv[:split], "service.in_process")
        settings = load_settings(argv[split + 1 :], os.environ)
    except SettingsError as err:
        fail("gateway", f"gateway: {err}", usage=_USAGE)
        return 2
    backend = InProcessBackend(options, timeout_s=settings.predict_timeout_s)
    return run_checked(options, functools.partial(run_gateway, settings, backend))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
