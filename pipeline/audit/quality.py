"""Finds readable images of doubtful quality: wrong suffix, odd shape or mode, tiny, dark, washed out, blurred."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np

from contract.model import InputSpec
from pipeline.audit.findings import Finding, counted, each
from pipeline.data.image_quality import ImageQuality

_SUFFIXES: Mapping[str, tuple[str, ...]] = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
    "AVIF": (".avif",),
    "HEIC": (".heic", ".heif"),
    "DICOM": (".dcm", ".dicom"),
}
_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap width and height
DARK = 51  # grey level that the brightest parts of a dark image stay below
BRIGHT = 230  # grey level that the darkest parts of a washed-out image stay above
FLAT = 8  # grey levels between dark and bright in an image that shows nothing
ODD_SHAPE = 1.5  # an aspect ratio this many times the set's median, or less than one over it
BLURRED_AT_LEAST = 4.0  # times less sharp than the set's median, however alike the set is
BLURRED_SPREADS = 3.5  # robust standard deviations (1.4826 x median absolute deviation) below the median
_FEWEST = 20  # images from which on the set's own median says what is usual


def find_quality(qualities: Mapping[str, ImageQuality], spec: InputSpec) -> list[Finding]:
    """Return warnings on single images.

    Args:
        qualities: of the readable images, by path.
        spec: the model's input.
    """
    shape = _aspect_ratios(qualities)
    blurred = _blurred_below([quality.sharpness for quality in qualities.values() if quality.contrast >= FLAT])
    smallest = min(spec.height, spec.width) / 2
    checks: list[tuple[str, str, str, Callable[[str, ImageQuality], bool]]] = [
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
        if paths := [path for path, quality in qualities.items() if has_it(path, quality)]:
            findings.append(Finding("warning", code, f"{counted(len(paths), 'image', verb)} {words}", each(paths)))
    return findings + _mixed_modes(qualities)


def _has_wrong_suffix(path: str, quality: ImageQuality) -> bool:
    """Return whether a suffix says another format; a file without one, or with one of its own, says none."""
    suffix, right = PurePosixPath(path).suffix.lower(), _SUFFIXES.get(quality.header.format, ())
    return suffix not in right and any(suffix in others for others in _SUFFIXES.values())


def _is_deep(quality: ImageQuality) -> bool:
    return quality.header.mode.startswith("I")


def _aspect_ratios(qualities: Mapping[str, ImageQuality]) -> dict[str, bool]:
    """Return whether each image's shape is odd: against the set's median, or against a square in a small set."""
    ratios = {}
    for path, quality in qualities.items():
        ratio = quality.header.width / quality.header.height
        ratios[path] = 1 / ratio if quality.header.orientation in _SIDEWAYS else ratio
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


def _mixed_modes(qualities: Mapping[str, ImageQuality]) -> list[Finding]:
    """Warn of a minority of grey among colour images, and the like: it may give the class away."""
    modes = {path: _kind(quality.header.mode) for path, quality in qualities.items()}
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
