"""Lists and reads the files of a zip in place, whatever program and code page wrote their names.

Backslashes, as Windows programs write them, separate folders. A name that is not marked as UTF-8 is read by the
encoding that the caller names, by its Unicode extra field, or as UTF-8 where the whole archive is UTF-8. The name of a
folder is never guessed: an archive whose folders have names of unknown encoding is refused.
"""

from __future__ import annotations

import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from pipeline.data.folder_source import Alias, read_head
from pipeline.data.image_files import HEAD_BYTES, count_system
from pipeline.data.names import escape_bytes, escape_name
from pipeline.errors import DatasetError

MAX_MEMBER_BYTES = 512 * 1024**2  # of one file inside a zip, unpacked
MAX_EXPANSION = 50  # unpacked / packed bytes of a whole zip; images hardly shrink

_UTF8_FLAG = 0x800
_UNICODE_PATH = 0x7075  # Info-ZIP's extra field
_OTHER_COMPRESSIONS = {1: "Shrink", 6: "Implode", 9: "Deflate64", 93: "Zstandard", 95: "XZ", 98: "PPMd"}
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
# Encodings of names that an error tries, with the superset that Windows writes under that name.
_SUPERSETS = {"gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "big5": "cp950", "euc_kr": "cp949"}
_TRIED = ("gbk", "shift_jis", "big5", "euc_kr", "cp437", "cp850", "cp1252", "cp866", "cp1251")
_EAST_ASIAN = _TRIED[:4]
_SIGNATURES = (
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document, such as .xls"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"%PDF", "a PDF document"),
    (b"PAR1", "a Parquet table by another suffix; rename it to .parquet"),
)
_ARCHIVE_SUFFIXES = (".zip", ".7z", ".rar", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst")
_BACKSLASH = re.compile(rb"(?<![\x80-\xff])\\")  # elsewhere it may be the second byte of a character
_LAST_PART = re.compile(rb"[^/\\]*[/\\]?\Z")
_BOX_DRAWING = re.compile("[\u2500-\u259f]")
_UNPACK = "unpack it and give its folder"


class ZipSource:
    """Files in a zip.

    Args:
        location: the zip.
        encoding: of names that are not marked as UTF-8; None where it is not known.

    Raises:
        DatasetError: if the file is not a zip, is encrypted, names a path outside itself, holds a link, would unpack
            to far more than its size, or has folders with names of unknown encoding.
    """

    def __init__(self, location: Path, encoding: str | None = None) -> None:
        self.location = location
        self._encoding = encoding
        name = escape_name(location.name)
        self._zip = _open(location)
        members = self._zip.infolist()
        names = _decode_names(name, members, encoding)
        self._members: dict[str, zipfile.ZipInfo] = {}
        folders: set[PurePosixPath] = set()
        for member, text in zip(members, names, strict=True):
            _check_member(name, member, text)
            path = PurePosixPath(text)
            if not path.parts:
                continue
            if text.endswith("/"):
                folders.add(path)
            elif str(path) in self._members:
                raise DatasetError(f"{name}: expected every path once. Received: {text!r} more than once; {_UNPACK}")
            else:
                self._members[str(path)] = member
        _check_expansion(location, members)
        self._files = [PurePosixPath(path) for path in self._members]
        self._folders = folders.union(*(path.parents for path in self._files))
        self.aliases: list[Alias] = []
        self.system = count_system([*self._files, *folders])

    def list_files(self) -> list[PurePosixPath]:
        """Return every file's path inside the zip, sorted."""
        return sorted(self._files)

    def list_folders(self) -> list[PurePosixPath]:
        """Return every folder's path inside the zip."""
        return list(self._folders)

    def read(self, path: str) -> bytes:
        """Return a file's bytes; a damaged one raises OSError, as in a folder."""
        return self._read(path, -1)

    def read_head(self, path: str) -> bytes:
        """Return the first bytes of a file."""
        return self._read(path, HEAD_BYTES)

    def size(self, path: str) -> int:
        """Return the number of bytes of a file, unpacked; -1 if there is none."""
        return self._members[path].file_size if path in self._members else -1

    def __reduce__(self) -> tuple[type[ZipSource], tuple[Path, str | None]]:
        """Open the zip again in another process."""
        return ZipSource, (self.location.absolute(), self._encoding)

    def _read(self, path: str, count: int) -> bytes:
        if path not in self._members:
            raise FileNotFoundError(f"no such file in the zip: {path}")
        try:
            with self._zip.open(self._members[path]) as file:
                return file.read(count)
        except (OSError, MemoryError):
            raise
        except Exception as err:  # zip and every compression have errors of their own for what is damaged
            raise OSError(f"damaged in the zip: {str(err) or type(err).__name__}") from err


def is_archive(path: PurePosixPath) -> bool:
    """Return whether a file is an archive by its suffix."""
    return path.suffix.lower() in _ARCHIVE_SUFFIXES


def _open(location: Path) -> zipfile.ZipFile:
    name = escape_name(location.name)
    expected = "expected a folder or a zip, or a table (.csv, .tsv, .parquet)"
    try:
        archive = zipfile.ZipFile(location)
    except UnicodeDecodeError as err:
        raise DatasetError(f"{name}: expected names in UTF-8, as they are marked. Received: {err}; {_UNPACK}") from err
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as err:
        received = _describe_container(location) or str(err)
        raise DatasetError(f"{name}: {expected}. Received: {received}") from err
    if document := _describe_document({member.filename for member in archive.infolist()}):
        archive.close()
        raise DatasetError(f"{name}: {expected}. Received: {document}")
    return archive


def _describe_container(location: Path) -> str | None:
    try:
        head = read_head(location)
        with location.open("rb") as file:
            is_tar = file.read(262)[257:] == b"ustar"
    except OSError:
        return None
    for signature, words in _SIGNATURES:
        if head.startswith(signature):
            return f"{words}; {_UNPACK}" if "archive" in words else words
    if is_tar or location.suffix.lower() == ".tar":
        return f"a tar archive; {_UNPACK}"
    if is_archive(PurePosixPath(location.name)) and location.suffix.lower() != ".zip":
        return f"a {location.suffix.lower()} file; {_UNPACK}"
    return None


def _describe_document(members: set[str]) -> str | None:
    """Name a file that is a zip inside and no set of images."""
    if "xl/workbook.xml" in members or "xl/workbook.bin" in members:
        return "an Excel workbook; save its table as CSV (UTF-8)"
    if "[Content_Types].xml" in members:
        return "an Office document"
    if "mimetype" in members and "content.xml" in members:
        return "an OpenDocument file; save its table as CSV (UTF-8)"
    if "model.weights.h5" in members:
        return "a Keras model"
    if members and all(member.endswith(".npy") for member in members):
        return "NumPy arrays (.npz)"
    return None


def _check_member(archive: str, member: zipfile.ZipInfo, text: str) -> None:
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or (path.parts and ":" in path.parts[0]):
        raise DatasetError(f"{archive}: expected paths inside the archive. Received: {text!r}")
    if stat.S_ISLNK(member.external_attr >> 16):
        raise DatasetError(f"{archive}: expected files and folders. Received: a link, {text!r}")
    if member.flag_bits & 0x1:
        raise DatasetError(f"{archive}: expected an archive without a password. Received: {text!r} encrypted")
    if member.file_size > MAX_MEMBER_BYTES:
        raise DatasetError(
            f"{archive}: expected files of at most {MAX_MEMBER_BYTES} bytes. Received: {text!r} of {member.file_size}"
        )
    if member.compress_type not in _COMPRESSIONS:
        what = _OTHER_COMPRESSIONS.get(member.compress_type, f"method {member.compress_type}")
        raise DatasetError(
            f"{archive}: expected files that are stored or compressed by deflate, bzip2 or lzma. "
            f"Received: {text!r} by {what}; {_UNPACK}"
        )


def _check_expansion(location: Path, members: Sequence[zipfile.ZipInfo]) -> None:
    unpacked, packed = sum(member.file_size for member in members), location.stat().st_size
    if unpacked > MAX_EXPANSION * max(packed, 1):
        raise DatasetError(
            f"{escape_name(location.name)}: expected at most {MAX_EXPANSION} times its size unpacked. "
            f"Received: {unpacked} bytes from {packed}; unpack it by hand if you trust it"
        )


def _decode_names(archive: str, members: Sequence[zipfile.ZipInfo], encoding: str | None) -> list[str]:
    """Return the members' paths with forward slashes; folders end with one."""
    garbled = any(_is_garbled(member.filename) for member in members)
    known = [_known_name(member, garbled=garbled) for member in members]
    raw = [member.filename.encode("cp437") for member, text in zip(members, known, strict=True) if text is None]
    if encoding is None and _all_decode(raw, "utf-8"):
        encoding = "utf-8"
    if encoding is None:
        _check_folders(archive, raw)
    decoded = iter([_decode(archive, name, encoding) for name in raw])
    return [next(decoded) if text is None else text.replace("\\", "/") for text in known]


def _decode(archive: str, name: bytes, encoding: str | None) -> str:
    if encoding is None:
        return escape_bytes(_BACKSLASH.sub(b"/", name))
    try:
        return name.decode(_SUPERSETS.get(encoding, encoding)).replace("\\", "/")
    except UnicodeDecodeError as err:
        raise DatasetError(
            f"{archive}: expected names in {encoding} (data.zip_encoding). Received: {escape_bytes(name)}, which reads "
            f"{_describe_readings(name) or 'in none that is known'}"
        ) from err


def _check_folders(archive: str, names: Sequence[bytes]) -> None:
    """Refuse folders with names of unknown encoding: they may be classes."""
    for name in names:
        folder = _LAST_PART.sub(b"", name)
        if not folder.isascii():
            part = next(part for part in re.split(rb"[/\\]", folder) if not part.isascii())
            raise DatasetError(
                f"{archive}: expected names in UTF-8, or their encoding. Received: a folder that reads "
                f"{_describe_readings(part)}. Say which with --zip-encoding gbk, or --set data.zip_encoding=gbk"
            )


def _describe_readings(name: bytes) -> str:
    """Return a name as the encodings that can be tried read it."""
    readings: dict[str, list[str]] = {}
    for encoding in _TRIED:
        if _all_decode([name], encoding):
            readings.setdefault(name.decode(_SUPERSETS.get(encoding, encoding)), []).append(encoding)
    return ", ".join(f"{text!r} in {' and '.join(encodings)}" for text, encodings in readings.items())


def _all_decode(names: Sequence[bytes], encoding: str) -> bool:
    try:
        for name in names:
            name.decode(_SUPERSETS.get(encoding, encoding))
    except UnicodeDecodeError:
        return False
    return True


def _is_garbled(text: str) -> bool:
    """Return whether a name is one in another encoding that a program read as code page 437 and wrote as UTF-8."""
    if not _BOX_DRAWING.search(text):
        return False
    return _in_code_page(text) and any(
        _all_decode([text.encode("cp437")], encoding) for encoding in ("utf-8", *_EAST_ASIAN)
    )


def _known_name(member: zipfile.ZipInfo, *, garbled: bool) -> str | None:
    """Return a member's name where the archive says how it is encoded; None elsewhere."""
    text = member.filename
    if text.isascii():
        return text
    if member.flag_bits & _UTF8_FLAG:
        return None if garbled and _in_code_page(text) else text
    return _unicode_path(member)


def _in_code_page(text: str) -> bool:
    try:
        text.encode("cp437")
    except UnicodeEncodeError:
        return False
    return True


def _unicode_path(member: zipfile.ZipInfo) -> str | None:
    extra = member.extra
    while len(extra) >= 4:
        kind, length = struct.unpack("<HH", extra[:4])
        field, extra = extra[4 : 4 + length], extra[4 + length :]
        if kind == _UNICODE_PATH and len(field) > 5 and field[0] == 1:
            if int.from_bytes(field[1:5], "little") != zlib.crc32(member.filename.encode("cp437")):
                return None
            try:
                return field[5:].decode()
            except UnicodeDecodeError:
                return None
    return None
