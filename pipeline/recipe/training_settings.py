"""The `model` and `train` sections of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, PrivateAttr, Tag, field_validator, model_validator

from contract.model import Fit, Resize
from pipeline.recipe.optimizer_settings import Adam, OptimizerSetting
from pipeline.recipe.preprocessing_settings import PreprocessingSetting
from pipeline.recipe.settings_base import SettingsBase

LAYERS = "layers"  # stands in model.backbone where model.layers says what the network is
FIND = "find"  # in place of a learning rate: a range test before the stage finds one
LearningRate = Annotated[
    Annotated[float, Field(gt=0.0, le=10.0), Tag("a rate")] | Annotated[Literal["find"], Tag("a search")],
    Discriminator(lambda value: "a search" if value == FIND else "a rate"),
]
# Keras's names. Targets are one-hot; both crossentropies of them are the same.
Loss = Literal[
    "categorical_crossentropy",
    "sparse_categorical_crossentropy",
    "binary_crossentropy",
    "categorical_focal_crossentropy",
    "categorical_hinge",
    "mean_squared_error",
    "kl_divergence",
]


class Model(SettingsBase):
    """The network.

    Attributes:
        backbone: a name that `python -m pipeline backbones` lists, or a network of your own: path/to/net.py:build, a
            function `build(input_shape, num_classes) -> keras.Model`.
        layers: a straight network of your own in place of a backbone, in Keras's names: a list such as
            [{Conv2D: {filters: 32, kernel_size: 3}}, MaxPooling2D, Flatten]; Dense(classes) and softmax are added.
        weights: "imagenet", "none", a file of weights or a whole model (.h5, .weights.h5, .keras), or NAME/VERSION of a
            model in the store to go on from: its backbone, and its head too where the classes and shapes are the same.
        input_size: height and width of the input, pixels; None: the backbone's own.
        last_layer: the backbone's layer whose output is the feature map; what comes after it is left out, as
            suits pictures unlike those of the weights (docs/train.md). None: all of the backbone.
        resize: interpolation, as in the contract.
        fit: treatment of the aspect ratio, as in the contract.
        crop_fraction: share of each side that is kept, as in the contract: 0.875 with fit crop is the centre crop that
            most ImageNet models were evaluated with.
        preprocessing: what pixels of 0-255 become, for weights from elsewhere: none, unit ([0, 1]), tf, caffe, torch,
            or {scale, offset, color_order}. None: the backbone's own.
        head: "gap" (global average pooling, dropout, Dense) or "flatten-dense" (Flatten, the backbone's hidden layers,
            by default one of 1024, each with dropout, Dense); None: the backbone's own.
        dropout: share of the pooled features, or of each hidden layer, dropped while training.
    """

    omitted: ClassVar[frozenset[str]] = frozenset({"layers"})

    backbone: str = "ResNet50"
    weights: str = "imagenet"
    input_size: Annotated[int, Field(ge=16, le=2048)] | None = None
    last_layer: str | None = None
    resize: Resize = "bilinear"
    fit: Fit = "stretch"
    crop_fraction: Annotated[float, Field(ge=0.01, le=1.0)] = 1.0
    preprocessing: PreprocessingSetting | None = None
    head: Literal["gap", "flatten-dense"] | None = None
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    layers: Annotated[tuple[dict[str, dict[str, Any]], ...], Field(min_length=1, max_length=1000)] | None = None
    _lines: tuple[str, ...] = PrivateAttr(())  # where each layer stands, as `load_recipe` found it

    @model_validator(mode="before")
    @classmethod
    def _layers_are_the_network(cls, value: Any) -> Any:
        return {**value, "backbone": LAYERS} if isinstance(value, Mapping) and value.get("layers") else value

    @field_validator("layers", mode="before")
    @classmethod
    def _spell_out(cls, value: Any) -> Any:
        if value is None:
            return None
        if not isinstance(value, list | tuple):
            raise ValueError(f"model.layers: expected a list of Keras's layers. Received: {value!r}")
        return tuple(_spell_out_layer(i, entry) for i, entry in enumerate(value, 1))

    @property
    def own_file(self) -> tuple[str, str] | None:
        """The path and the function of a network in a Python file; None of others."""
        path, colon, function = self.backbone.rpartition(":")
        if colon and path.endswith(".py"):
            return path, function
        return (self.backbone, "build") if self.backbone.endswith(".py") else None

    def layer_places(self) -> list[str]:
        """Return where each of `layers` stands, for messages."""
        count = len(self.layers or ())
        return list(self._lines) if len(self._lines) == count else [f"layer {i}" for i in range(1, count + 1)]

    @model_validator(mode="after")
    def _crops(self) -> Model:
        if self.crop_fraction != 1 and self.fit == "pad":
            raise ValueError(f"crop_fraction: expected 1 with fit pad. Received: {self.crop_fraction}")
        return self


def _spell_out_layer(number: int, entry: Any) -> dict[str, dict[str, Any]]:
    """Return `Flatten` and `{Flatten: null}` as `{Flatten: {}}`."""
    if isinstance(entry, str):
        return {entry: {}}
    if isinstance(entry, Mapping) and len(entry) == 1:
        ((name, settings),) = entry.items()
        if isinstance(name, str) and (settings is None or isinstance(settings, Mapping)):
            return {name: dict(settings or {})}
    raise ValueError(
        f"model.layers, layer {number}: expected a name, or one name with its settings, such as "
        f"Conv2D: {{filters: 32, kernel_size: 3}}. Received: {entry!r}"
    )


class FineTune(SettingsBase):
    """The second stage, from the first one's best weights; batch norm stays frozen.

    Attributes:
        epochs: 0 leaves the stage out.
        unfreeze: how many of the backbone's last convolution layers train; "all" for every one.
        learning_rate: usually a tenth to a hundredth of the first stage's; find: by a range test after the first stage.
    """

    epochs: Annotated[int, Field(ge=0, le=10_000)] = 0
    unfreeze: Annotated[int, Field(ge=1)] | Literal["all"] = 10
    learning_rate: LearningRate = 1e-5


class EarlyStopping(SettingsBase):
    """Stop when the validation loss has not improved for `patience` epochs."""

    patience: Annotated[int, Field(ge=1, le=10_000)] = 5


class Plateau(SettingsBase):
    """`schedule: plateau`: after `patience` epochs without a better validation loss, the rate times `factor`."""

    patience: Annotated[int, Field(ge=1, le=10_000)] = 3
    factor: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.3
    min_learning_rate: Annotated[float, Field(ge=0.0)] = 1e-7


class Train(SettingsBase):
    """Settings of training.

    Attributes:
        epochs: of the first stage.
        batch_size: images a step.
        learning_rate: at the start, or at the end of the warm-up; find: by a range test before the stage.
        optimizer: adam, adamw, sgd or rmsprop, or its settings by Keras's names, such as {name: sgd, momentum: 0.9}.
        loss: by Keras's name; probabilities are compared with one-hot targets.
        weights_of: the epoch whose weights are kept: "best" by validation loss, over all stages, or "last".
        auxiliary_weight: of the loss of each output after the first, in a network of your own that has several.
        schedule: "constant", "cosine" decay to zero over each stage, or "plateau".
        plateau: of the schedule of this name.
        warmup_epochs: over which each stage's rate rises from zero, step by step.
        freeze_backbone: whether the first stage trains the head alone.
        fine_tune: the second stage.
        early_stopping: None trains all epochs.
        class_weight: "balanced" gives every class the same weight in the loss, however few its images are.
        label_smoothing: share of each target that is spread evenly over the classes.
        seed: of initial weights, splits, order, augmentation and dropout.
        tensorboard: whether to write event files to the run's folder; needs nothing installed, only reading them does.
        precision: of the backbone's layers while they train: float32, mixed_bfloat16, or auto, which measures a few
            steps of each stage and takes mixed_bfloat16 where they are 1.3 times as fast. The published network
            computes at float32 whatever it was trained at.
    """

    omitted: ClassVar[frozenset[str]] = frozenset({"optimizer", "loss", "weights_of", "auxiliary_weight", "precision"})

    epochs: Annotated[int, Field(ge=1, le=10_000)] = 20
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 32
    learning_rate: LearningRate = 1e-3
    schedule: Literal["constant", "cosine", "plateau"] = "constant"
    plateau: Plateau = Plateau()
    warmup_epochs: Annotated[int, Field(ge=0, le=1000)] = 0
    freeze_backbone: bool = True
    fine_tune: FineTune = FineTune()
    early_stopping: EarlyStopping | None = EarlyStopping()
    class_weight: Literal["balanced", "none"] = "none"
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    tensorboard: bool = False
    optimizer: OptimizerSetting = Adam()
    loss: Loss = "categorical_crossentropy"
    weights_of: Literal["best", "last"] = "best"
    auxiliary_weight: Annotated[float, Field(ge=0.0, le=10.0)] = 0.3
    precision: Literal["float32", "mixed_bfloat16", "auto"] = "float32"
