"""Writes NOTICE: the compiled libraries inside the packages that the container images install, with their licences.

    .venv/bin/python scripts/notice.py            writes NOTICE
    .venv/bin/python scripts/notice.py --check    fails if NOTICE is not what the environment gives

Packages come from the images' lock files, shared libraries from the files of the installed packages. Libraries that are
linked into a package's own modules leave no file: `LINKED` names them, as the licence files in the packages do.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[1]
NOTICE = ROOT / "NOTICE"
IMAGES = ("gateway", "modelserver", "pipeline")

APACHE = "Apache-2.0"
BSD2 = "BSD-2-Clause"
BSD3 = "BSD-3-Clause"
GCC_RUNTIME = "GPL-3.0-or-later WITH GCC-exception-3.1"


@dataclass(frozen=True)
class Library:
    """A library that a package bundles.

    Attributes:
        name: the project's own name for it.
        licence: as an SPDX expression.
    """

    name: str
    licence: str


# Shared libraries by the stem of their file's name: without "lib", versions and the hashes that wheels add.
SHARED = {
    "Xau": Library("libXau", "MIT"),
    "aec": Library("libaec", BSD2),
    "arrow": Library("Apache Arrow", APACHE),
    "avif": Library("libavif, with AOM, dav1d and libyuv", f"{BSD2} AND {BSD3}"),
    "brotlicommon": Library("Brotli", "MIT"),
    "brotlidec": Library("Brotli", "MIT"),
    "clang": Library("libclang", "Apache-2.0 WITH LLVM-exception"),
    "freetype": Library("FreeType, with bzip2", "FTL AND bzip2-1.0.6"),
    "gfortran": Library("GCC runtime, libgfortran", GCC_RUNTIME),
    "gomp": Library("GCC runtime, libgomp", GCC_RUNTIME),
    "harfbuzz": Library("HarfBuzz", "MIT-Modern-Variant"),
    "hdf5": Library("HDF5", "BSD-3-Clause"),
    "hdf5_hl": Library("HDF5", "BSD-3-Clause"),
    "hwloc": Library("hwloc", BSD3),
    "jpeg": Library("libjpeg-turbo", f"IJG AND {BSD3} AND Zlib"),
    "lcms2": Library("Little CMS", "MIT"),
    "lzma": Library("liblzma", "0BSD"),
    "openblas": Library("OpenBLAS, with LAPACK", f"{BSD3} AND BSD-3-Clause-Open-MPI"),
    "openjp2": Library("OpenJPEG", BSD2),
    "openvino": Library("OpenVINO", APACHE),
    "parquet": Library("Apache Parquet C++", APACHE),
    "png16": Library("libpng", "libpng-2.0"),
    "quadmath": Library("libquadmath", "LGPL-2.1-or-later"),
    "sharpyuv": Library("libwebp", BSD3),
    "sz": Library("libaec", BSD2),
    "tbb": Library("oneTBB", APACHE),
    "tbbbind": Library("oneTBB", APACHE),
    "tbbmalloc": Library("oneTBB", APACHE),
    "tbbmalloc_proxy": Library("oneTBB", APACHE),
    "tensorflow_cc": Library("TensorFlow", APACHE),
    "tensorflow_framework": Library("TensorFlow", APACHE),
    "tiff": Library("LibTIFF", "libtiff"),
    "webp": Library("libwebp", BSD3),
    "webpdemux": Library("libwebp", BSD3),
    "webpmux": Library("libwebp", BSD3),
    "xcb": Library("libxcb", "MIT"),
    "zstd": Library("Zstandard", BSD3),
}
# Patterns for the stems of what one project builds under many names.
FAMILIES = {
    r"arrow_\w+": "arrow",
    r"openvino_\w+": "openvino",
    r"scipy_openblas(64_)?": "openblas",
    r"_?pywrap_\w+|_native_proto_caster": "tensorflow_cc",
}

# Libraries inside a package's own modules, scripts and shared libraries, as its licence files list them.
LINKED = {
    "fastapi-swagger": (
        Library("Swagger UI", APACHE),
        Library("DOMPurify", f"{APACHE} OR MPL-2.0"),
        Library("highlight.js", BSD3),
        Library("Immutable", "MIT"),
        Library("React and Redux", "MIT"),
        Library("Remarkable", "MIT"),
    ),
    "grpcio": (
        Library("BoringSSL", APACHE),
        Library("Abseil", APACHE),
        Library("c-ares", "MIT"),
        Library("RE2", BSD3),
        Library("upb", BSD3),
        Library("utf8_range", "MIT"),
        Library("zlib", "Zlib"),
    ),
    "httptools": (Library("llhttp", "MIT"), Library("http-parser", "MIT")),
    "matplotlib": (
        Library("Anti-Grain Geometry 2.4", "BSD-3-Clause"),
        Library("FreeType", "FTL"),
        Library("HarfBuzz", "MIT-Modern-Variant"),
        Library("libraqm", "MIT"),
        Library("Qhull", "Qhull"),
    ),
    "ml-dtypes": (Library("Eigen", "MPL-2.0"),),
    "numpy": (
        Library("Highway", f"{APACHE} OR {BSD3}"),
        Library("PocketFFT", BSD3),
        Library("SVML", BSD3),
        Library("x86-simd-sort", BSD3),
        Library("libdivide", "Zlib"),
    ),
    "openvino": (
        Library("oneDNN", APACHE),
        Library("ITT API", BSD3),
        Library("MLAS, of ONNX Runtime", "MIT"),
        Library("ONNX", APACHE),
        Library("Protocol Buffers", BSD3),
        Library("pugixml", "MIT"),
        Library("Snappy", BSD3),
        Library("Xbyak", BSD3),
        Library("zlib", "Zlib"),
    ),
    "pillow": (Library("libraqm", "MIT"), Library("zlib-ng", "Zlib")),
    "protobuf": (Library("upb", BSD3), Library("utf8_range", "MIT")),
    "pyarrow": (
        Library("Abseil", APACHE),
        Library("AWS SDK for C++", APACHE),
        Library("Azure SDK for C++", "MIT"),
        Library("Apache ORC", APACHE),
        Library("Brotli", "MIT"),
        Library("c-ares", "MIT"),
        Library("curl", "curl"),
        Library("google-cloud-cpp", APACHE),
        Library("gRPC", APACHE),
        Library("jemalloc", BSD2),
        Library("LZ4", BSD2),
        Library("mimalloc", "MIT"),
        Library("OpenSSL", APACHE),
        Library("opentelemetry-cpp", APACHE),
        Library("Protocol Buffers", BSD3),
        Library("RapidJSON", "MIT"),
        Library("RE2", BSD3),
        Library("Snappy", BSD3),
        Library("utf8proc", "MIT"),
        Library("xsimd", BSD3),
        Library("zlib", "Zlib"),
        Library("Zstandard", BSD3),
    ),
    "contourpy": (Library("pybind11", BSD3),),
    "optree": (Library("pybind11", BSD3),),
    "obstore": (
        Library("AWS-LC, ring, rustls and webpki", f"{APACHE} AND ISC AND MIT AND {BSD3}"),
        Library("ICU4X", "Unicode-3.0"),
        Library("Rust crates, among them hyper, object_store, PyO3 and Tokio", f"MIT OR {APACHE}"),
    ),
    "pydantic-core": (Library("Rust crates, among them jiter, PyO3, regex and serde", f"MIT OR {APACHE}"),),
    "safetensors": (Library("Rust crates, among them memmap2, PyO3 and serde", f"MIT OR {APACHE}"),),
    "pyyaml": (Library("libyaml", "MIT"),),
    "scipy": (
        Library("ARPACK-NG", BSD3),
        Library("Boost", "BSL-1.0"),
        Library("HiGHS", "MIT"),
        Library("PocketFFT", BSD3),
        Library("Qhull", "Qhull"),
        Library("SuperLU", BSD3),
    ),
    "tensorflow": (
        Library("Abseil", APACHE),
        Library("BoringSSL", APACHE),
        Library("curl", "curl"),
        Library("double-conversion", BSD3),
        Library("Eigen", "MPL-2.0"),
        Library("FarmHash", "MIT"),
        Library("FlatBuffers", APACHE),
        Library("gemmlowp", APACHE),
        Library("giflib", "MIT"),
        Library("gRPC", APACHE),
        Library("HighwayHash", APACHE),
        Library("ICU", "Unicode-3.0"),
        Library("libjpeg-turbo", f"IJG AND {BSD3} AND Zlib"),
        Library("libpng", "libpng-2.0"),
        Library("LLVM and MLIR", "Apache-2.0 WITH LLVM-exception"),
        Library("oneDNN", APACHE),
        Library("Protocol Buffers", BSD3),
        Library("pybind11", BSD3),
        Library("RE2", BSD3),
        Library("Snappy", BSD3),
        Library("SQLite", "blessing"),
        Library("StableHLO", APACHE),
        Library("zlib", "Zlib"),
    ),
    "uvloop": (Library("libuv", "MIT"),),
}
# Packages whose compiled modules are their own code and nothing else.
OWN_CODE = frozenset({"charset-normalizer", "fonttools", "kiwisolver", "markupsafe", "psutil", "pywavelets", "wrapt"})

# Libraries under GPL or AGPL without an exception for those who link them, or commonly built that way.
GPL_LIBRARIES = frozenset(
    (  # noqa: SIM905 - forty quoted words take forty lines
        "avidemux frei0r mjpegutils postproc rubberband sox vidstab x264 x265 xvidcore "
        "cln fftw3 fftw3f fftw3l fftw3q gcal ginac glpk gsl gslcblas ntl pari "
        "cholmod klu spqr umfpack "
        "gs mupdf poppler gdbm history mysqlclient readline "
    ).split()
)

# Licences that name GPL or LGPL and bind nothing here, each with its reason.
EXCEPTIONS = {
    GCC_RUNTIME: "the GCC Runtime Library Exception allows any licence for what is compiled with GCC and linked to it",
    "LGPL-2.1-or-later": "a shared library of its own, unmodified, that can be exchanged",
}
# The packages whose metadata quote a GPL text in full.
QUOTING = {
    "matplotlib": "FreeType is offered under FTL or GPL-2.0; matplotlib takes FTL",
    "scipy": "libgfortran has the GCC Runtime Library Exception; libquadmath (LGPL-2.1) is a shared library of its own",
}

HEADER = """\
Fovea
Licensed under the Apache License, Version 2.0; see LICENSE.

The container images install packages that bundle compiled libraries or scripts. They are listed here with
their licences (SPDX expressions). Each package keeps the licence texts in its `*.dist-info` folder; TensorFlow's are
in `tensorflow/THIRD_PARTY_NOTICES.txt`. The base image's own files have theirs under `/usr/share/doc/*/copyright`.
scripts/notice.py writes this file from the installed packages.
"""


def normal_name(name: str) -> str:
    """Return a package's name as indexes compare names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_packages(image: str) -> set[str]:
    """Return the packages that an image's lock file pins."""
    text = (ROOT / f"requirements-{image}.lock").read_text()
    return {normal_name(name) for name in re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==", text, re.M)}


def stem(path: str) -> str:
    """Return the name of a shared library without folder, "lib", versions and the hashes that wheels add."""
    name = re.sub(r"\.(so|dylib|dll|a)(\.\d+)*$", "", PurePosixPath(path).name)
    name = re.sub(r"(-[0-9a-f]{8,}|-\d+)+$", "", name)
    name = re.sub(r"(_[0-9]+)+$|(\.[0-9]+)+$", "", name)
    return name.removeprefix("lib")


@cache
def files_of(package: str) -> list[importlib.metadata.PackagePath]:
    """Return the files of an installed package."""
    return importlib.metadata.distribution(package).files or []


def shared_libraries(package: str) -> Iterator[str]:
    """Yield the shared libraries among an installed package's files, without Python's extension modules."""
    for file in files_of(package):
        if re.fullmatch(r"lib.*\.(so(\.\d+)*|dylib)", file.name) and not re.search(r"\.(cpython-|abi3)", file.name):
            yield str(file)


def find_shared(path: str) -> Library | None:
    """Return a shared library's entry; None if `SHARED` has none."""
    name = stem(path)
    family = next((family for pattern, family in FAMILIES.items() if re.fullmatch(pattern, name)), name)
    return SHARED.get(family)


def bundled(package: str) -> set[Library]:
    """Return the libraries that an installed package bundles.

    Raises:
        ValueError: if the tables above do not know the package or one of its libraries.
    """
    found = set(LINKED.get(package, ()))
    for path in shared_libraries(package):
        library = find_shared(path)
        if library is None:
            raise ValueError(f"{package} bundles {path}: add {stem(path)!r} with its licence to SHARED")
        found.add(library)
    is_compiled = any(re.search(r"\.(so|pyd)$", file.name) for file in files_of(package))
    if is_compiled and not found and package not in OWN_CODE:
        raise ValueError(
            f"{package} has compiled modules: add the libraries in them to LINKED, or its name to OWN_CODE"
        )
    return found


def installed(packages: Iterable[str]) -> list[str]:
    """Return those packages that this environment has, in order; a lock also pins packages for other platforms."""
    here = {normal_name(found.name) for found in importlib.metadata.distributions()}
    return sorted(here.intersection(packages))


def build_notice() -> str:
    """Return NOTICE as this environment gives it."""
    images = {image: read_packages(image) for image in IMAGES}
    blocks = [HEADER]
    for package in installed(set().union(*images.values())):
        libraries = sorted(bundled(package), key=lambda library: library.name.lower())
        if libraries:
            where = ", ".join(image for image in IMAGES if package in images[image])
            lines = [f"    {library.name}: {library.licence}" for library in libraries]
            blocks.append("\n".join([f"{package} (in {where})", *lines, ""]))
    blocks.append("\n".join(f"{licence}: {reason}." for licence, reason in EXCEPTIONS.items()) + "\n")
    return "\n".join(blocks)


def licence_statements(distribution: importlib.metadata.Distribution) -> list[str]:
    """Return a package's licence as its metadata state it: expression, field and classifiers."""
    metadata = distribution.metadata
    classifiers = [text for text in metadata.get_all("Classifier") or () if text.startswith("License ::")]
    fields = [metadata[name] for name in ("License-Expression", "License") if name in metadata]
    return [*fields, *classifiers]


def names_gpl(statement: str) -> bool:
    """Return whether a licence statement names GPL or AGPL, LGPL and a choice of another licence aside."""
    gpl = re.compile(r"\bA?GPL|(?<!Lesser )(?<!Library )General Public Licen[cs]e", re.IGNORECASE)
    if len(statement) > 200:  # not an expression but texts in full
        return gpl.search(statement) is not None
    choices = re.split(r"\s+OR\s+", statement)
    return all(gpl.search(choice) and "GCC-exception" not in choice for choice in choices)


def is_gpl_library(name: str) -> bool:
    """Return whether a file or a component has the name of a library known to be under GPL."""
    return stem(name).lower().removesuffix("_threads").removesuffix("_omp") in GPL_LIBRARIES


def main() -> int:
    """Write or check NOTICE."""
    parser = argparse.ArgumentParser(description="Writes NOTICE from the installed packages.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if NOTICE is out of date")
    check = parser.parse_args().check
    text = build_notice()
    if check:
        is_current = NOTICE.read_text() == text
        if not is_current:
            print("NOTICE is out of date; run: .venv/bin/python scripts/notice.py", file=sys.stderr)
        return 0 if is_current else 1
    NOTICE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
