"""Optimizers by Keras's names, with their settings; the learning rate is `train.learning_rate`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from pipeline.recipe.settings_base import SettingsBase

Momentum = Annotated[float, Field(ge=0.0, lt=1.0)]
Epsilon = Annotated[float, Field(gt=0.0, le=1.0)]
Decay = Annotated[float, Field(ge=0.0, le=1.0)]


class _Optimizer(SettingsBase):
    """Settings that every optimizer has.

    Attributes:
        clipnorm: largest norm of each variable's gradient; None: unlimited.
    """

    clipnorm: Annotated[float, Field(gt=0.0)] | None = None


class Adam(_Optimizer):
    """Adam (Kingma and Ba 2014)."""

    name: Literal["adam"] = "adam"
    beta_1: Momentum = 0.9
    beta_2: Momentum = 0.999
    epsilon: Epsilon = 1e-7
    amsgrad: bool = False


class AdamW(_Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2017)."""

    name: Literal["adamw"] = "adamw"
    weight_decay: Decay = 0.004
    beta_1: Momentum = 0.9
    beta_2: Momentum = 0.999
    epsilon: Epsilon = 1e-7
    amsgrad: bool = False


class Sgd(_Optimizer):
    """Stochastic gradient descent."""

    name: Literal["sgd"] = "sgd"
    momentum: Momentum = 0.0
    nesterov: bool = False
    weight_decay: Decay | None = None


class RmsProp(_Optimizer):
    """RMSprop (Hinton 2012)."""

    name: Literal["rmsprop"] = "rmsprop"
    rho: Momentum = 0.9
    momentum: Momentum = 0.0
    epsilon: Epsilon = 1e-7
    centered: bool = False


Optimizer = Adam | AdamW | Sgd | RmsProp
OPTIMIZERS: dict[str, type[Optimizer]] = {"adam": Adam, "adamw": AdamW, "sgd": Sgd, "rmsprop": RmsProp}


def _spelt_out(value: Any) -> Any:
    """Return `sgd` and `{sgd: {momentum: 0.9}}` as `{name: sgd, ...}`; names in any case."""
    if isinstance(value, str):
        value = {"name": value}
    if isinstance(value, Mapping) and "name" not in value and len(value) == 1:
        ((name, settings),) = value.items()
        if isinstance(settings, Mapping) or settings is None:
            value = {"name": name, **(settings or {})}
    if isinstance(value, Mapping):
        name = str(value.get("name", "adam")).lower()
        if name not in OPTIMIZERS:
            raise ValueError(
                f"train.optimizer: expected {', '.join(OPTIMIZERS)}, or its settings, such as "
                f"{{name: sgd, momentum: 0.9}}. Received: {value.get('name')!r}"
            )
        return {**value, "name": name}
    return value


def _tag(value: Any) -> str | None:
    return value.get("name") if isinstance(value, Mapping) else getattr(value, "name", None)


OptimizerSetting = Annotated[
    Annotated[Adam, Tag("adam")]
    | Annotated[AdamW, Tag("adamw")]
    | Annotated[Sgd, Tag("sgd")]
    | Annotated[RmsProp, Tag("rmsprop")],
    Discriminator(_tag, custom_error_type="optimizer", custom_error_message="expected an optimizer's name or settings"),
    BeforeValidator(_spelt_out),
]
