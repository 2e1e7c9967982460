"""`python -m fovea`: the command `fovea` where it is not on the path."""

from fovea.cli import entry

if __name__ == "__main__":
    entry()
