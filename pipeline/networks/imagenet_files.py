"""Files that Keras publishes: their address, name in the cache and checksum."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ImageNetFile:
    """A file of weights, or of class names.

    Attributes:
        url: where it comes from.
        checksum: md5 (32 hex digits) or sha256 (64), as Keras has it; None where Keras has none.
    """

    url: str
    checksum: str | None

    @property
    def name(self) -> str:
        """The file's name, in the cache too."""
        name = self.url.rsplit("/", 1)[1]
        # Keras keeps these under names of its own.
        return name.lower().replace("-", "_") if name.startswith("NASNet") else name

    @property
    def algorithm(self) -> str:
        """The hash of the checksum: "md5" or "sha256"."""
        return "sha256" if self.checksum and len(self.checksum) == 64 else "md5"


# The names of the 1000 classes, in the order of the networks' output: {"0": ["n01440764", "tench"], ...}.
CLASS_INDEX = ImageNetFile(
    "https://storage.googleapis.com/download.tensorflow.org/data/imagenet_class_index.json",
    "c2c37ea517e94d9795004a39431a14cb",
)
