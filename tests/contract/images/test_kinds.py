"""The kinds of image files in docs/images.md are read or refused as the page says."""

from __future__ import annotations

import numpy as np
import pytest

from contract.errors import UnsupportedImageError
from contract.image import FORMATS, decode_image
from tests.contract.images.kinds import PAGE, SPEC, ReadKind, read_kinds, read_rows, refusal, refused_kinds, render
from tests.helpers.extras import hide_package


@pytest.mark.parametrize("kind", read_kinds(), ids=lambda kind: f"{kind.format}: {kind.kind}")
def test_pixels(kind: ReadKind) -> None:
    expected = np.asarray(kind.shows.convert("RGB").resize((SPEC.width, SPEC.height), 2)).astype(int)

    difference = np.abs(decode_image(kind.data, SPEC).astype(int) - expected)
    assert difference.mean() <= kind.tolerance


def test_every_format_is_in_the_table() -> None:
    assert {name.split()[0] for name, _, _ in read_rows()} == set(FORMATS)


@pytest.mark.parametrize("kind", refused_kinds(), ids=lambda kind: kind.kind)
def test_a_refusal_names_the_kind_and_a_format_that_is_read_is_never_another(kind: object) -> None:
    error = refusal(kind.data)  # type: ignore[attr-defined]
    assert "another format" not in str(error)
    assert not isinstance(error, UnsupportedImageError) or "Received: " in str(error)


def test_page_is_generated() -> None:
    """`python -m tests.contract.images.kinds` writes it anew."""
    assert render() == PAGE.read_text(), "run: python -m tests.contract.images.kinds"


@pytest.mark.parametrize(
    ("data", "extra", "package"),
    [(bytes(128) + b"DICM" + bytes(200), "dicom", "pydicom"), (b"\0\0\0\x18ftypheic" + bytes(200), "heic", "pi_heif")],
)
def test_without_its_extra_a_format_is_refused_with_the_name_of_the_extra(
    monkeypatch: pytest.MonkeyPatch, data: bytes, extra: str, package: str
) -> None:
    hide_package(monkeypatch, package)

    with pytest.raises(UnsupportedImageError, match=f"install Fovea's extra '{extra}' to read it, or convert it"):
        decode_image(data, SPEC)
