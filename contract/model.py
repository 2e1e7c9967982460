"""The contract of one model version: labels, input, tolerance, provenance. JSON in, JSON out.

The JSON document is the truth: its canonical form is what `describe` returns and what the contract hash is taken
over, unknown fields included, so two readers of different ages agree on the hash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from contract.drift_baseline import DriftBaseline, read_drift_baseline
from contract.errors import ContractError
from contract.novelty import NoveltyCheck, read_novelty_check

FORMATS = (1, 2)  # 2: `input.crop_fraction` is not 1; a reader of format 1 would ignore it, and must refuse it
TASK = "image-classification"
_MAX_DIMENSION = 1 << 20
DECODER = 2  # version of the rules in contract/image.py that new models get
DECODERS = (1, 2)  # versions that are read
MIN_CROP_FRACTION = 0.01

Color = Literal["rgb", "grey"]
Resize = Literal["nearest", "bilinear", "bicubic", "area"]
Fit = Literal["stretch", "crop", "pad"]


@dataclass(frozen=True, slots=True)
class Label:
    """One class.

    Attributes:
        id: stable identifier, such as the class folder's name or a WordNet id.
        name: for people.
    """

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class InputSpec:
    """The conversion of an image file's bytes to a model's input array.

    Attributes:
        height: rows of the model's input, pixels.
        width: columns of the model's input, pixels.
        channels: 3 for rgb, 1 for grey.
        color: colour order of the channels.
        resize: interpolation; all but "nearest" are antialiased when shrinking (Pillow's filters).
        fit: "stretch" ignores the aspect ratio, "crop" cuts the centre, "pad" adds black bars.
        crop_fraction: share of each side of that part that is kept, around its centre, in (0, 1]; 1 with "pad". With
            "crop", 0.875 is the centre crop of 224 from pictures whose shorter side was resized to 256.
        reduced_decode: whether a JPEG may be decoded at 1/2, 1/4 or 1/8 scale when it stays at least input size.
        decoder: version of the decoding rules (EXIF, bit depth, alpha, grey).
    """

    height: int
    width: int
    channels: int = 3
    color: Color = "rgb"
    resize: Resize = "bilinear"
    fit: Fit = "stretch"
    reduced_decode: bool = True
    decoder: int = DECODER
    crop_fraction: float = 1.0

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ContractError: if a value is outside the documented range.
        """
        for name in ("height", "width"):
            _check_int(f"input.{name}", getattr(self, name), 1, 8192)
        for name, allowed in (("color", get_args(Color)), ("resize", get_args(Resize)), ("fit", get_args(Fit))):
            if getattr(self, name) not in allowed:
                raise ContractError(
                    f"input.{name}: expected one of {', '.join(allowed)}. Received: {getattr(self, name)!r}"
                )
        expected = 3 if self.color == "rgb" else 1
        if self.channels != expected:
            raise ContractError(
                f"input.channels: expected {expected} for color {self.color!r}. Received: {self.channels!r}"
            )
        if not isinstance(self.reduced_decode, bool):
            raise ContractError(f"input.reduced_decode: expected true or false. Received: {self.reduced_decode!r}")
        if isinstance(self.decoder, bool) or self.decoder not in DECODERS:
            known = " and ".join(str(version) for version in DECODERS)
            raise ContractError(f"input.decoder: this Fovea knows versions {known}. Received: {self.decoder!r}")
        _check_number("input.crop_fraction", self.crop_fraction, MIN_CROP_FRACTION, 1.0)
        if self.crop_fraction != 1 and self.fit == "pad":
            raise ContractError(
                f"input.crop_fraction: expected 1 for fit 'pad', which keeps all of a picture. "
                f"Received: {self.crop_fraction!r}"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """The image's shape, (height, width, channels)."""
        return (self.height, self.width, self.channels)

    @property
    def format(self) -> int:
        """The lowest format of a contract that can say it."""
        return 1 if self.crop_fraction == 1 else 2

    def document(self) -> dict[str, Any]:
        """Return the fields of a contract's `input`; those of format 1 alone where they say everything."""
        document = asdict(self)
        if self.format == 1:
            del document["crop_fraction"]
        return document


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A threshold on one label's probability, with its rates on test images.

    Attributes:
        label: a label's id.
        threshold: probability in [0, 1] from which on the label is called.
        sensitivity: true positive rate in [0, 1].
        specificity: true negative rate in [0, 1].
    """

    label: str
    threshold: float
    sensitivity: float
    specificity: float


@dataclass(frozen=True)
class ModelContract:
    """The contract of one model version; build it with `from_document` or `from_json`.

    Attributes:
        document: the whole JSON document, unknown fields included.
        labels: classes in the order of the probabilities' last axis.
        input: how bytes become the model's input.
        tolerance: how far a faster precision may move the probabilities of 95 % of the images.
        temperature: softmax temperature that is inside the graph.
        saliency: method of the `explain` signature, or None when there is none.
        embedding_dimension: numbers in a vector of the `embed` signature, or None when there is none.
        operating_points: thresholds, possibly none.
        novelty: the check for images unlike the training images, or None.
        drift_baseline: the answers on the test images, or None.
        sha256: "sha256:<hex>" over the canonical JSON; the contract hash in replies.
    """

    document: Mapping[str, Any] = field(repr=False, compare=False)
    labels: tuple[Label, ...]
    input: InputSpec
    tolerance: float
    temperature: float
    saliency: str | None
    operating_points: tuple[OperatingPoint, ...]
    sha256: str
    novelty: NoveltyCheck | None = field(default=None, repr=False, compare=False)
    embedding_dimension: int | None = None
    drift_baseline: DriftBaseline | None = field(default=None, repr=False, compare=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> ModelContract:
        """Parse a contract.

        Raises:
            ContractError: if the text is not JSON or not a contract of a known format.
        """
        try:
            document = json.loads(text)
        except ValueError as err:
            raise ContractError(f"the contract is not JSON: {err}") from err
        return cls.from_document(document)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> ModelContract:
        """Check a contract document and give it types.

        Raises:
            ContractError: naming the first field that is missing or wrong, with the expected and the received value.
        """
        if not isinstance(document, Mapping):
            raise ContractError(f"the contract: expected an object. Received: {type(document).__name__}")
        version = document.get("format")
        if isinstance(version, bool) or version not in FORMATS:
            known = " and ".join(str(known) for known in FORMATS)
            raise ContractError(f"format: this Fovea reads {known}. Received: {version!r}")
        if document.get("task") != TASK:
            raise ContractError(f"task: expected {TASK!r}. Received: {document.get('task')!r}")
        saliency = document.get("saliency")
        if saliency not in (None, "cam", "grad-cam"):
            raise ContractError(f"saliency: expected 'cam', 'grad-cam' or null. Received: {saliency!r}")
        labels = _read_labels(document.get("labels"))
        # A document that names no version was read by version 1 before there was another.
        spec = InputSpec(**{"decoder": 1} | _known_fields(InputSpec, document.get("input"), "input"))
        if spec.format > version:
            raise ContractError(
                f"input.crop_fraction: expected format 2 for a fraction other than 1. Received: format {version}, "
                f"fraction {spec.crop_fraction!r}"
            )
        return cls(
            document=document,
            labels=labels,
            input=spec,
            tolerance=_check_number("tolerance", document.get("tolerance", 0.02), 0.0, 1.0),
            temperature=_check_number("temperature", document.get("temperature", 1.0), 0.01, 100.0),
            saliency=saliency,
            operating_points=_read_operating_points(document.get("operating_points", []), labels),
            sha256=_hash(document),
            novelty=read_novelty_check(document.get("baseline"), spec.channels),
            embedding_dimension=_read_dimension(document.get("embedding")),
            drift_baseline=read_drift_baseline(document.get("drift_baseline")),
        )

    def to_json(self) -> str:
        """Return the canonical JSON of the whole document."""
        return canonical_json(self.document)


def build_document(labels: Sequence[Label], spec: InputSpec, **fields: Any) -> dict[str, Any]:
    """Return a contract document of the lowest format that can say it.

    Args:
        labels: classes in the order of the probabilities' last axis.
        spec: how bytes become the model's input.
        fields: further top-level fields, such as `temperature`, `tolerance`, `provenance`.
    """
    return {
        "format": spec.format,
        "task": TASK,
        "labels": [asdict(label) for label in labels],
        "input": spec.document(),
        **fields,
    }


def canonical_json(document: Mapping[str, Any]) -> str:
    """Return JSON with sorted keys, no spaces and no NaN: the form that is hashed and exported."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _hash(document: Mapping[str, Any]) -> str:
    try:
        return "sha256:" + hashlib.sha256(canonical_json(document).encode()).hexdigest()
    except (TypeError, ValueError) as err:  # NaN, half a surrogate pair, or what JSON has no form for
        raise ContractError(f"the contract: expected what JSON can hold. Received: {err}") from err


def _read_labels(value: object) -> tuple[Label, ...]:
    if not isinstance(value, list) or len(value) < 2:
        raise ContractError(f"labels: expected a list of at least two. Received: {value!r}")
    labels = tuple(Label(**_known_fields(Label, item, f"labels[{i}]")) for i, item in enumerate(value))
    for i, label in enumerate(labels):
        if not isinstance(label.id, str) or not isinstance(label.name, str) or not label.id:
            raise ContractError(f"labels[{i}]: expected texts for id and name. Received: {value[i]!r}")
    ids = [label.id for label in labels]
    if len(set(ids)) != len(ids):
        raise ContractError(f"labels: ids must differ. Received: {ids!r}")
    return labels


def _read_operating_points(value: object, labels: tuple[Label, ...]) -> tuple[OperatingPoint, ...]:
    if not isinstance(value, list):
        raise ContractError(f"operating_points: expected a list. Received: {value!r}")
    points = []
    for i, item in enumerate(value):
        point = OperatingPoint(**_known_fields(OperatingPoint, item, f"operating_points[{i}]"))
        if point.label not in {label.id for label in labels}:
            raise ContractError(f"operating_points[{i}].label: no such label. Received: {point.label!r}")
        for name in ("threshold", "sensitivity", "specificity"):
            _check_number(f"operating_points[{i}].{name}", getattr(point, name), 0.0, 1.0)
        points.append(point)
    return tuple(points)


def _read_dimension(value: object) -> int | None:
    """Return the length of an embedding; versions that were published without `embed` do not have the field."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise ContractError(f"embedding: expected an object or null. Received: {value!r}")
    dimension: Any = value.get("dimension")
    _check_int("embedding.dimension", dimension, 1, _MAX_DIMENSION)
    return int(dimension)


def _known_fields(kind: type, value: object, where: str) -> dict[str, Any]:
    """Keep the fields that `kind` has; a newer writer may add others within a format."""
    if not isinstance(value, Mapping):
        raise ContractError(f"{where}: expected an object. Received: {value!r}")
    missing = [f.name for f in fields(kind) if f.name not in value and f.default is MISSING]
    if missing:
        raise ContractError(f"{where}: missing {', '.join(missing)}. Received: {dict(value)!r}")
    return {f.name: value[f.name] for f in fields(kind) if f.name in value}


def _check_int(name: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ContractError(f"{name}: expected a whole number from {low} to {high}. Received: {value!r}")


def _check_number(name: str, value: object, low: float, high: float) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
        raise ContractError(f"{name}: expected a number from {low} to {high}. Received: {value!r}")
    return float(value)
