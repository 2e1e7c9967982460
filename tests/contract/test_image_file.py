"""Parts of a file that make no pixels change no pixel; very many parts, and tags that overlap, are bounded."""

from __future__ import annotations

import dataclasses
import io
import struct
import time
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from contract.errors import ImageError, UndecodableImageError
from contract.image import decode_image, read_header
from contract.model import InputSpec

SPEC = InputSpec(height=16, width=16)


def save(kind: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(out, kind)
    return out.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def overlapping_tags(order: str, size: int) -> bytes:
    """Return TIFF data whose 4,000 tags all refer to the same bytes."""
    tags = b"".join(struct.pack(order + "HHII", 40_000 + n, 7, size - 60_000, 55_000) for n in range(4000))
    start = struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, 8)
    return (start + struct.pack(order + "H", 4000) + tags).ljust(size, b"\0")


JPEG, PNG, GIF = save("JPEG"), save("PNG"), save("GIF")
EXIF = b"Exif\0\0" + overlapping_tags("<", 65_000)
FILES = {
    "JPEG of comments": JPEG[:2] + b"\xff\xfe\0\2" * 500_000 + JPEG[2:],
    "PNG of chunks": PNG[:33] + chunk(b"abCd", b"") * 200_000 + PNG[33:],
    "PNG of empty data": PNG[:33] + chunk(b"IDAT", b"") * 200_000 + PNG[33:],
    "GIF of short comments": GIF.replace(b"\x2c\0\0\0\0", b"\x21\xfe" + b"\1c" * 500_000 + b"\0\x2c\0\0\0\0"),
    "TIFF whose tags overlap": overlapping_tags("<", 2_000_000),
}


@pytest.mark.parametrize("name", FILES)
def test_work_beside_the_pixels_is_bounded(name: str) -> None:
    """Refused, and not after minutes or gigabytes; without these parts the same images are read."""
    with pytest.raises(ImageError):
        decode_image(FILES[name], SPEC)


def test_version_1_refuses_tags_of_very_many_numbers() -> None:
    """Two resolutions of two million fractions each, which version 2 does not read."""
    size = 8 << 21
    tags = {256: 4, 257: 4, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 4, 279: 16}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    entries += b"".join(struct.pack("<HHII", tag, 5, 1 << 21, 8) for tag in (282, 283))
    data = (
        struct.pack("<2sHI", b"II", 42, 8 + size) + bytes(size) + struct.pack("<H", len(tags) + 2) + entries + bytes(4)
    )

    assert (16, 16, 3) == decode_image(data, SPEC).shape
    with pytest.raises(UndecodableImageError, match="not those of a picture"):
        decode_image(data, dataclasses.replace(SPEC, decoder=1))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
def test_ordinary_files_are_read(kind: str) -> None:
    """With a comment, in chunks of 8 KB, of any format."""
    assert (16, 16, 3) == decode_image(save(kind), SPEC).shape


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def riff(name: bytes, body: bytes) -> bytes:
    return struct.pack("<4sI", name, len(body)) + body + bytes(len(body) % 2)


def blocks(body: bytes) -> bytes:
    parts = [body[start : start + 255] for start in range(0, len(body), 255)]
    return b"".join(bytes([len(part)]) + part for part in parts) + b"\0"


def picture(mode: str) -> Image.Image:
    noise = np.random.default_rng(1).integers(0, 256, (7, 9, 4), dtype=np.uint8)
    image = Image.fromarray(noise).resize((60, 45), Image.Resampling.BICUBIC)
    if mode == "I;16":
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 200)
    return image.convert("RGB").quantize(16) if mode == "P" else image.convert(mode)


def encode(mode: str, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture(mode).save(out, kind, **options)
    return out.getvalue()


TAGS = overlapping_tags("<", 65_000)
BODIES = {
    "nothing": b"",
    "a byte": b"a",
    "zeros": bytes(65_000),
    "inflates to 3 MB": b"a\0\0" + zlib.compress(bytes(3_000_000)),
    "not compressed": b"a\0\0not compressed",
    "overlapping tags": TAGS,
    "EXIF": b"Exif\0\0" + TAGS[:60_000],
    "EXIF that ends early": b"Exif\0\0II*\0\xff\xff\xff\xff",
    "an index of pictures": b"MPF\0" + TAGS[:60_000],
    "a damaged profile": b"ICC_PROFILE\0\1\2" + bytes(90),
    "Photoshop": b"Photoshop 3.0\0008BIM\3\xed\0\0\xff\xff\xff\xff",
    "XMP": b"http://ns.adobe.com/xap/1.0/\0<x",
    "JPEG markers": b"\xff\xd8\xff\xe0\xff\xda\xff\xc0" * 20,
}
CHUNKS = """
    iCCP zTXt iTXt tEXt eXIf sPLT hIST gAMA cHRM sRGB pHYs bKGD sBIT tIME oFFs acTL fcTL cICP caBX abCd
""".split()  # noqa: SIM905


def same(data: bytes, changed: bytes) -> None:
    """Both files give the same pixels, and a header."""
    np.testing.assert_array_equal(decode_image(data, SPEC), decode_image(changed, SPEC))
    assert read_header(data).orientation == read_header(changed).orientation


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "I;16"])
def test_a_png_is_read_whatever_its_other_chunks_hold(mode: str, body: str) -> None:
    """Before and behind the pixels, with a right and a wrong checksum."""
    data = encode(mode, "PNG")
    for name in CHUNKS:
        right = chunk(name.encode(), BODIES[body])
        for part in (right, right[:-4] + b"\1\2\3\4"):
            same(data, data[:33] + part + data[33:])
            same(data, data[:-12] + part + data[-12:])


@pytest.mark.timeout(60)
def test_repeated_starts_of_exif_data_take_no_time() -> None:
    """A million of them: cut off one by one, each copies what follows."""
    data = encode("RGB", "PNG")

    same(data, data[:33] + chunk(b"eXIf", b"Exif\0\0" * 1_000_000) + data[33:])


@pytest.mark.parametrize("key", [b"Raw profile type exif", b"XML:com.adobe.xmp"])
def test_of_texts_with_one_key_only_the_last_is_inflated(key: bytes) -> None:
    """Each of 20,000 inflates to a megabyte."""
    data = encode("RGB", "PNG")
    texts = chunk(b"zTXt", key + b"\0\0" + zlib.compress(bytes(1 << 20), 9)) * 20_000
    start = time.process_time()

    same(data, data[:33] + texts + data[33:])
    assert time.process_time() - start < 4


def test_the_last_text_with_a_key_tells_the_orientation() -> None:
    """In any of the chunks that hold texts."""
    data = encode("RGB", "PNG")
    first, last = (b'<x tiff:Orientation="%d">' % number for number in (3, 6))
    key = b"XML:com.adobe.xmp\0"
    texts = chunk(b"tEXt", key + first) + chunk(b"zTXt", key + b"\0" + zlib.compress(last))

    assert 6 == read_header(data[:33] + texts + data[33:]).orientation


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_is_read_whatever_its_other_segments_hold(progressive: bool, body: str) -> None:
    """Every application segment and the comment, once and often; Adobe's tells how colours are coded."""
    data = encode("RGB", "JPEG", progressive=progressive, quality=90)
    for marker in (*range(0xE0, 0xF0), 0xFE):
        part = segment(marker, BODIES[body])
        same(data, data[:20] + part + data[20:])
        same(data, data[:20] + part * 100 + data[20:])


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_webp_image_is_read_whatever_its_other_chunks_hold(mode: str, body: str) -> None:
    """Before and behind the picture, announced and not, cut off at the end."""
    data = encode(mode, "WEBP", lossless=True, exact=True)
    sides = (59).to_bytes(3, "little") + (44).to_bytes(3, "little")
    for name in (b"ICCP", b"EXIF", b"XMP ", b"abcd"):
        for announced in (0, 0x2C):
            head = riff(b"VP8X", bytes([announced | 0x10 * (mode == "RGBA"), 0, 0, 0]) + sides)
            part = riff(name, BODIES[body])
            for chunks in (head + part + data[12:], head + data[12:] + part * 2, head + data[12:] + (part + part)[:-1]):
                same(data, riff(b"RIFF", b"WEBP" + chunks))


@pytest.mark.parametrize("label", [0xFE, 0xFF, 0x01, 0x77])
@pytest.mark.parametrize("body", [b"", b"x", b"NETSCAPE2.0", bytes(5_000_000)], ids=len)
def test_a_gif_is_read_whatever_its_other_extensions_hold(label: int, body: bytes) -> None:
    """Comments of 5 MB too."""
    data = encode("P", "GIF")
    extension = b"!" + bytes([label]) + blocks(body)
    start = data.index(b"\x2c\0\0\0\0")
    same(data, data[:start] + extension + data[start:])
    same(data, data[:-1] + extension + data[-1:])


CHANGES = st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=6)
NOTED = Image.Exif()
NOTED[0x010E], NOTED[0x0132] = "a description", "2026:01:01 00:00:00"
RICH = {"exif": NOTED.tobytes(), "icc_profile": bytes(range(256)) * 2}


@given(kind=st.sampled_from(["PNG", "JPEG", "MPO", "WEBP"]), changes=CHANGES)
@settings(max_examples=300)
def test_damage_within_these_parts_changes_no_pixel(kind: str, changes: list[tuple[int, int]]) -> None:
    """Any bytes of their contents are overwritten; their lengths stay."""
    options = RICH | ({"save_all": True, "append_images": [picture("RGB")]} if kind == "MPO" else {})
    data = encode("RGB", kind, **options)
    damaged = bytearray(data)
    places = [place for start, end in contents(kind, data) for place in range(start, end)]
    for place, value in changes:
        damaged[places[place % len(places)]] = value

    np.testing.assert_array_equal(decode_image(data, SPEC).shape, decode_image(bytes(damaged), SPEC).shape)
    if read_header(bytes(damaged)).orientation == 1:
        np.testing.assert_array_equal(decode_image(data, SPEC), decode_image(bytes(damaged), SPEC))


def contents(kind: str, data: bytes) -> list[tuple[int, int]]:
    """Return where the parts of a file that make no pixels have their contents."""
    found, place = [], {"PNG": 8, "WEBP": 12}.get(kind, 2)
    while place + 8 < len(data):
        if kind == "PNG":
            length, name = struct.unpack_from(">I4s", data, place)
            start, end, makes_pixels = place + 8, place + 12 + length, name in (b"IHDR", b"IDAT", b"IEND")
        elif kind == "WEBP":
            name, length = struct.unpack_from("<4sI", data, place)
            start, end, makes_pixels = place + 8, place + 8 + length + length % 2, name.startswith(b"VP8")
        else:
            marker, length = struct.unpack_from(">xBH", data, place)
            if marker == 0xDA:
                break
            start, end, makes_pixels = place + 4, place + 2 + length, not 0xE0 <= marker <= 0xEF
        if not makes_pixels:
            found.append((start, end))
        place = end
    return found
