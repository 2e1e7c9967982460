"""Names of the precisions that a model may be computed at."""

from __future__ import annotations

from typing import Final, Literal, get_args

Precision = Literal["float32", "bfloat16", "float16", "int8"]

AUTO: Final = "auto"
FLOAT32: Final = "float32"
INT8: Final = "int8"  # a model of its own in the version's folder; whether it is faster depends on the network
PRECISION_SETTINGS: Final[tuple[str, ...]] = (AUTO, *get_args(Precision))  # the values of a `precision` setting
