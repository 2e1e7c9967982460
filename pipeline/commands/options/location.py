"""The argument of commands that read images: a path, or an address of object storage."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.data.objects.url import Location, read_location
from pipeline.errors import DatasetError
from pipeline.run_folder import clean_name, default_name


def parse_location(text: str) -> Location:
    """Return what an argument names, for argparse."""
    try:
        return read_location(text)
    except DatasetError as err:
        raise argparse.ArgumentTypeError(str(err)) from err


def name_of(location: Location) -> str:
    """Return the name of a model that is trained on a set, by default."""
    return default_name(location) if isinstance(location, Path) else clean_name(location.name)
