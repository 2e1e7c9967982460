"""`python -m service.modelserver`: the embedded model server alone."""

import sys

from service.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["modelserver", *sys.argv[1:]]))
