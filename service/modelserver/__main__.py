"""`python -m service.modelserver`: the embedded model server alone."""

import sys

from service.modelserver.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
