"""Addresses of object storage, which stand where a folder's path may."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pipeline.errors import DatasetError

SCHEMES = ("s3", "gs", "abfs", "abfss")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


@dataclass(frozen=True, slots=True)
class ObjectUrl:
    """A bucket, or the objects below a prefix of it; has what is asked of a path to a folder.

    Attributes:
        text: such as "s3://bucket/eyes"; a query has pyarrow's options, such as "?region=eu-west-1".
    """

    text: str

    @property
    def name(self) -> str:
        """The last part of the prefix, else the bucket."""
        parts = urlsplit(self.text)
        return parts.path.strip("/").rpartition("/")[2] or parts.netloc.partition("@")[0]

    @property
    def suffix(self) -> str:
        """No suffix: it stands for a folder."""
        return ""

    def exists(self) -> bool:
        """Return True: listing it tells more."""
        return True

    def is_dir(self) -> bool:
        """Return True."""
        return True

    def is_file(self) -> bool:
        """Return False."""
        return False

    def __str__(self) -> str:
        return self.text


Location = Path | ObjectUrl


def read_location(text: str) -> Location:
    """Return a path, or an address of object storage.

    Raises:
        DatasetError: if it is an address of something else, or holds keys.
    """
    found = _URL.match(text)
    if found is None:
        return Path(text)
    scheme = found[1].lower()
    parts = urlsplit(text)
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise DatasetError(f"expected a folder, or an address that begins with {known}. Received: {scheme}://")
    if not parts.netloc:
        raise DatasetError(f"{text}: expected a bucket, such as {scheme}://bucket/eyes")
    if ":" in parts.netloc.rpartition("@")[0] or (scheme in ("s3", "gs") and "@" in parts.netloc):
        raise DatasetError(
            f"{scheme}://: expected an address without keys, because runs keep it. Give them by the environment, such "
            "as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or by the machine's role"
        )
    return ObjectUrl(text)
