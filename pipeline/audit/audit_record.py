"""Writes an audit: a table on the console, audit.json, a gallery, and copies of the bad files."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from PIL import Image

from contract.errors import ImageError
from pipeline.audit.audit import Audit
from pipeline.audit.findings import Finding
from pipeline.audit.gallery.checks import answer_checks
from pipeline.audit.gallery.contact_sheets import draw_contact_sheets
from pipeline.data.ingest import Dataset, Source, describe_reading
from pipeline.data.pixels import Pixels
from pipeline.errors import DatasetError

_SIZES = 20  # image sizes named in audit.json
_CLASSES = 20  # columns of classes
_ENTRIES = 24  # images or pairs shown of each finding
_TOGETHER = 6  # pictures shown of one entry
THUMBNAIL = 144  # pixels
_DOUBTFUL = frozenset(
    {"unreadable", "two_labels", "leaked_copies", "wrong_extension", "no_detail", "dark", "bright", "blurred"}
)


def write_audit(folder: Path, dataset: Dataset, found: Audit, pixels: Pixels) -> None:
    """Write audit.json and audit.html, the gallery, which holds pictures and stays in the run's folder.

    Args:
        folder: of the run.
        dataset: the audited set.
        found: the audit.
        pixels: where the thumbnails' pixels are; those that are not cached are decoded again.
    """
    document = audit_document(dataset, found)
    (folder / "audit.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=select_autoescape(), undefined=StrictUndefined
    )
    reasons = {problem.path: problem.message for problem in found.problems}
    shown = [{"finding": finding, "entries": _entries(finding, pixels, reasons)} for finding in found.findings]
    cut = {split: _cut(counts) for split, counts in document["classes"].items()}
    html = environment.get_template("audit.html.j2").render(
        document,
        shown=shown,
        thumbnail=THUMBNAIL,
        labels=dataset.labels,
        num_columns=_CLASSES,
        cut=cut,
        checks=answer_checks(found.findings, deep=found.deep),
        sheets=draw_contact_sheets(dataset.labels, [image.example for image in found.images], pixels),
    )
    (folder / "audit.html").write_text(html, encoding="utf-8")


def audit_document(dataset: Dataset, found: Audit) -> dict[str, Any]:
    """Return the audit as it is written to audit.json."""
    headers = [image.quality.header for image in found.images]
    sizes = Counter(f"{header.width} x {header.height}" for header in headers)
    return {
        "dataset": dataset.name,
        "images": len(found.images),
        "classes": classes_by_split(dataset),
        "formats": dict(Counter(header.format for header in headers).most_common()),
        "modes": dict(Counter(header.mode for header in headers).most_common()),
        "sizes": dict(sizes.most_common(_SIZES)),
        "findings": [
            {
                "level": finding.level,
                "code": finding.code,
                "message": finding.message,
                "images": finding.images,
                **({"kinds": finding.kinds} if finding.kinds else {}),
            }
            for finding in found.findings
        ],
        "problems": [{"path": p.path, "code": p.code, "message": p.message} for p in found.problems],
        "ignored": dict(dataset.ignored),
        "system_files": dict(dataset.system),
        "notes": list(dataset.notes),
    }


def classes_by_split(dataset: Dataset) -> dict[str, dict[str, int]]:
    """Return the number of files by split ("all" without split folders), then label."""
    counts: dict[str, Counter[str]] = {}
    for example in dataset.examples:
        counts.setdefault(example.split or "all", Counter())[example.label] += 1
    return {split: {label: found[label] for label in dataset.labels} for split, found in sorted(counts.items())}


def audit_table(dataset: Dataset, found: Audit) -> str:
    """Return the audit as text: images by split and class, then one line a finding."""
    more = len(dataset.labels) - _CLASSES
    header = [*dataset.labels[:_CLASSES], *([f"and {more} more"] if more > 0 else [])]
    rows = [["", *header]]
    rows += [[split, *map(str, _cut(counts))] for split, counts in classes_by_split(dataset).items()]
    summary = f"{len(found.images)} images can be read, {len(found.problems)} cannot"
    lines = [f"{dataset.name}: {summary}", *describe_reading(dataset), "", *_aligned(rows), ""]
    if not found.findings:
        return "\n".join([*lines, "Nothing found."])
    rows = [[finding.level, finding.code, finding.line] for finding in found.findings]
    return "\n".join([*lines, *_aligned(rows)])


def _cut(counts: Mapping[str, int]) -> list[int]:
    """Return the counts of the first classes, and the sum of the others'."""
    values = list(counts.values())
    return [*values[:_CLASSES], *([sum(values[_CLASSES:])] if len(values) > _CLASSES else [])]


def suspects(found: Audit) -> Mapping[str, str]:
    """Return every image that an error or a doubt about the picture itself concerns, with the finding's code.

    Images that are merely too similar, too many or on the wrong side are not bad in themselves.
    """
    named: dict[str, str] = {}
    for finding in found.findings:
        if finding.code in _DOUBTFUL:
            for path in (path for entry in finding.images for path in entry):
                named.setdefault(path, finding.code)
    return named


def quarantine(source: Source, found: Audit, folder: Path) -> int:
    """Copy the files in doubt into a folder, with a list of the reasons; the set itself is left as it is.

    Args:
        source: reads the files.
        found: the audit.
        folder: must not hold anything yet.

    Returns:
        The number of files in doubt.

    Raises:
        DatasetError: if the folder is not empty or cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DatasetError(f"--quarantine: expected a new or empty folder. Received: {folder}, which holds files")
    named = suspects(found)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "list.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "reason", "copied"])
            for path, code in sorted(named.items()):
                writer.writerow([path, code, "yes" if _copy(source, path, folder / path) else "no"])
    except OSError as err:
        raise DatasetError(f"--quarantine: {folder} cannot be written: {err.strerror or err}") from err
    return len(named)


def _copy(source: Source, path: str, target: Path) -> bool:
    """Copy a file; return whether its bytes could be read."""
    try:
        data = source.read(path)
    except OSError:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    return True


def _entries(finding: Finding, pixels: Pixels, reasons: Mapping[str, str]) -> list[list[dict[str, str]]]:
    return [
        [_entry(path, pixels, reasons.get(path, "")) for path in entry[:_TOGETHER]]
        for entry in finding.images[:_ENTRIES]
    ]


def _entry(path: str, pixels: Pixels, reason: str) -> dict[str, str]:
    folder, _, file = path.rpartition("/")
    return {"folder": folder, "file": file, "thumbnail": _thumbnail(path, pixels), "reason": reason}


def _thumbnail(path: str, pixels: Pixels) -> str:
    """Return a small JPEG as a data URL, "" for a file that cannot be decoded."""
    try:
        array = pixels[path]
    except (ImageError, OSError):
        return ""
    image = Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return [line.rstrip() for line in lines]
