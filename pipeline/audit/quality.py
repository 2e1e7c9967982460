"""Images that can be read but may be worth nothing: wrong names, kinds of pixel, tiny, odd-shaped, dark, blurred."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np

from contract.model import InputSpec
from pipeline.audit.findings import Finding, counted, each
from pipeline.data.image_quality import Look

_SUFFIXES: Mapping[str, tuple[str, ...]] = {
    "JPEG": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
}
_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap width and height
DARK = 51  # grey level that the brightest parts of a dark image stay below
BRIGHT = 230  # grey level that the darkest parts of a washed-out image stay above
FLAT = 8  # grey levels between dark and bright in an image that shows nothing
ODD_SHAPE = 1.5  # an aspect ratio this many times the set's median, or less than one over it
BLURRED_AT_LEAST = 4.0  # times less sharp than the set's median, however alike the set is
BLURRED_SPREADS = 3.5  # robust standard deviations (1.4826 x median absolute deviation) below the median
_FEWEST = 20  # images from which on the set's own median says what is usual


def find_quality(looks: Mapping[str, Look], spec: InputSpec) -> list[Finding]:
    """Return warnings on single images.

    Args:
        looks: the readable images by path.
        spec: what the model takes.
    """
    shape = _aspect_ratios(looks)
    blurred = _blurred_below([look.sharpness for look in looks.values() if look.contrast >= FLAT])
    smallest = min(spec.height, spec.width) / 2
    checks: list[tuple[str, str, str, Callable[[str, Look], bool]]] = [
        ("wrong_extension", "has", "the suffix of another format", _has_wrong_suffix),
        ("sixteen_bit", "is", "16-bit grey: scaled to 8 bits over the whole range", lambda _, x: _is_deep(x)),
        ("several_frames", "has", "several frames or pages: the first is used", lambda _, x: x.header.num_frames > 1),
        (
            "tiny",
            "is",
            f"less than half the model's {spec.height} x {spec.width} input",
            lambda _, x: min(x.header.width, x.header.height) < smallest,
        ),
        ("odd_shape", "has", "another shape than the rest", lambda path, _: shape[path]),
        ("no_detail", "shows", "one even grey", lambda _, x: x.contrast < FLAT),
        ("dark", "is", "very dark", lambda _, x: x.brightest < DARK and x.contrast >= FLAT),
        ("bright", "is", "washed out", lambda _, x: x.darkest > BRIGHT and x.contrast >= FLAT),
        ("blurred", "is", "far less sharp than the rest", lambda _, x: x.sharpness < blurred and x.contrast >= FLAT),
    ]
    findings = []
    for code, verb, words, has_it in checks:
        if paths := [path for path, look in looks.items() if has_it(path, look)]:
            findings.append(Finding("warning", code, f"{counted(len(paths), 'image', verb)} {words}", each(paths)))
    return findings + _mixed_modes(looks)


def _has_wrong_suffix(path: str, look: Look) -> bool:
    return PurePosixPath(path).suffix.lower() not in _SUFFIXES[look.header.format]


def _is_deep(look: Look) -> bool:
    return look.header.mode.startswith("I")


def _aspect_ratios(looks: Mapping[str, Look]) -> dict[str, bool]:
    """Return whether each image's shape is odd: against the set's median, or against a square in a small set."""
    ratios = {}
    for path, look in looks.items():
        ratio = look.header.width / look.header.height
        ratios[path] = 1 / ratio if look.header.orientation in _SIDEWAYS else ratio
    usual = float(np.median(list(ratios.values()))) if len(ratios) >= _FEWEST else 1.0
    limit = ODD_SHAPE if len(ratios) >= _FEWEST else ODD_SHAPE * 2
    return {path: not usual / limit <= ratio <= usual * limit for path, ratio in ratios.items()}


def _blurred_below(sharpness: Sequence[float]) -> float:
    """Return the sharpness below which an image stands out from the set; 0 for a set too small to say."""
    if len(sharpness) < _FEWEST:
        return 0.0
    logs = np.log(np.maximum(sharpness, 1e-9))
    spread = 1.4826 * float(np.median(np.abs(logs - np.median(logs))))
    return float(np.exp(np.median(logs) - max(BLURRED_SPREADS * spread, np.log(BLURRED_AT_LEAST))))


def _mixed_modes(looks: Mapping[str, Look]) -> list[Finding]:
    """Warn of a minority of grey among colour images, and the like: it may give the class away."""
    modes = {path: _kind(look.header.mode) for path, look in looks.items()}
    counts = Counter(modes.values()).most_common()
    if len(counts) < 2:
        return []
    usual = counts[0][0]
    odd = [path for path, kind in modes.items() if kind != usual]
    words = ", ".join(f"{count} {kind}" for kind, count in counts)
    return [Finding("warning", "mixed_modes", f"The images are of several kinds: {words}", each(odd))]


def _kind(mode: str) -> str:
    if mode.startswith("I") or mode in ("L", "1"):
        return "grey"
    if mode in ("P", "PA"):
        return "palette"
    if mode in ("RGBA", "LA", "La", "RGBa"):
        return "with transparency"
    return "CMYK" if mode == "CMYK" else "colour"
