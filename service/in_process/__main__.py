"""`python -m service.in_process`: gateway and model server in one process, as `python -m service up` starts them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from engine.runtimes.tensorflow_start import quiet_tensorflow
from service.gateway.cli import run_gateway
from service.gateway.context.settings import Settings, SettingsError, load_settings
from service.logs import fail, prepare_log
from service.modelserver.options import Options, parse_options

_USAGE = "usage: python -m service.in_process [the model server's flags] -- [the gateway's flags]"


def main(argv: Sequence[str]) -> int:
    """Run both until SIGTERM or SIGINT.

    Args:
        argv: the model server's flags, "--", the gateway's flags.

    Returns:
        0 stopped as asked, 1 the address, the keys or the certificate cannot be used, 2 wrong use.
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
    return _run(options, settings)


def _run(options: Options, settings: Settings) -> int:
    # Imported here so that wrong use is answered at once.
    from service.in_process.backend import InProcessBackend

    return run_gateway(settings, InProcessBackend(options, timeout_s=settings.predict_timeout_s))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
