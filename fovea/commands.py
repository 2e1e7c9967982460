"""Lists the commands of `fovea`, with help, extras and examples."""

from __future__ import annotations

from dataclasses import dataclass

PIPELINE = ("pipeline", "tensorflow")
WITHOUT_TENSORFLOW = ("pipeline",)
SERVER = ("gateway", "modelserver", "tensorflow")


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        name: after `fovea`.
        group: its heading in `fovea --help`.
        summary: one line.
        module: has `add`, which describes the command to argparse, or `main`, which takes the rest of the command line.
        source: the name that `add` gives it; None if the module has `main`.
        extras: optional dependencies that it needs.
        examples: command lines for its help.
    """

    name: str
    group: str
    summary: str
    module: str
    source: str | None
    extras: tuple[str, ...]
    examples: tuple[str, ...]


def _pipeline(
    name: str, group: str, summary: str, *examples: str, source: str = "", extras: tuple[str, ...] = PIPELINE
) -> Command:
    from pipeline.commands import MODULES

    source = source or name
    return Command(name, group, summary, f"pipeline.commands.{MODULES[source]}", source, extras, examples)


def _service(name: str, module: str, summary: str, *examples: str, extras: tuple[str, ...]) -> Command:
    return Command(name, "Serve and ask", summary, module, None, extras, examples)


_DATA, _TRAIN, _VERSIONS, _OTHER = "Look at images", "Train", "Versions", "Other"

COMMANDS = {
    command.name: command
    for command in (
        _pipeline(
            "train",
            _TRAIN,
            "train on a folder, zip or table of images and publish the result",
            "fovea train cells",
            "fovea train cells --recipe demo",
            "fovea train cells --again",
            "fovea train cells.zip --name cells --recipe classic --set train.epochs=10",
            source="run",
        ),
        _pipeline("resume", _TRAIN, "continue a run that was stopped", "fovea resume cells", "fovea resume cells/RUN"),
        _pipeline(
            "lr-find",
            _TRAIN,
            "find a learning rate by a range test, and write its curve",
            "fovea lr-find cells",
            "fovea lr-find cells --recipe scratch --set train.batch_size=16 --steps 200",
        ),
        _pipeline(
            "features",
            _TRAIN,
            "compute a frozen network's features of all images in units, for a later run",
            "fovea features cells --out units",
            "fovea features s3://pictures/cells --recipe demo --out units --shard 0/4",
        ),
        Command(
            "report",
            _TRAIN,
            "print where the report of a version is, or open it",
            "fovea.report",
            "report",
            (),
            ("fovea report", "fovea report cells", "fovea report cells/candidate --open"),
        ),
        _pipeline("backbones", _TRAIN, "list the networks that model.backbone can name", "fovea backbones", extras=()),
        _pipeline("weights", _TRAIN, "download ImageNet weights, or print where to put them", "fovea weights ResNet50"),
        _pipeline(
            "audit",
            _DATA,
            "find faults in a data set's images; exit status 1 on errors",
            "fovea audit cells",
            "fovea audit cells --quarantine bad",
            "fovea audit cells --out units --shard 0/4",
            "fovea audit cells --out units --merge",
            extras=WITHOUT_TENSORFLOW,
        ),
        _pipeline(
            "preview",
            _DATA,
            "draw training images as augmentation changes them",
            "fovea preview cells --out preview.png",
        ),
        _pipeline(
            "sample",
            _DATA,
            "draw a synthetic set to try things on",
            "fovea sample glaucoma --out glaucoma-sample",
            extras=WITHOUT_TENSORFLOW,
        ),
        _pipeline("models", _VERSIONS, "list the versions in the store and their roles", "fovea models", extras=()),
        _pipeline(
            "runs",
            _VERSIONS,
            "write a page of all runs and versions, to sort and to compare",
            "fovea runs",
            "fovea runs --out runs.html --open",
            extras=WITHOUT_TENSORFLOW,
        ),
        _pipeline(
            "promote",
            _VERSIONS,
            "make the candidate, or a version by its number, live",
            "fovea promote cells",
            "fovea promote cells 2",
            extras=(),
        ),
        _pipeline(
            "shadow",
            _VERSIONS,
            "ask the candidate a share of the live requests too",
            "fovea shadow cells",
            "fovea shadow cells 50%",
            "fovea shadow cells off",
            extras=(),
        ),
        _pipeline(
            "canary",
            _VERSIONS,
            "let the candidate answer a share of the live requests",
            "fovea canary cells 5%",
            "fovea canary cells off",
            extras=(),
        ),
        _pipeline("rollback", _VERSIONS, "make the previous version live again", "fovea rollback cells", extras=()),
        _pipeline("evaluate", _VERSIONS, "measure a version on a labelled set", "fovea evaluate cells new-cells"),
        _pipeline(
            "compare",
            _VERSIONS,
            "compare two versions on the same test images",
            "fovea compare cells/1 cells/2",
            "fovea compare cells/live cells/candidate --data new-cells",
        ),
        _pipeline(
            "verify",
            _VERSIONS,
            "run a version's recorded images and compare the probabilities",
            "fovea verify cells",
        ),
        _pipeline(
            "score",
            _VERSIONS,
            "predict every image of a folder into a CSV",
            "fovea score cells pictures --out scores.csv",
        ),
        _pipeline(
            "show",
            _VERSIONS,
            "draw what a version does with one image, layer by layer",
            "fovea show cell.png --model cells",
            "fovea show cell.png --model cells/candidate --layers conv2d,conv2d_1 --out cell.html",
        ),
        _pipeline(
            "import",
            _VERSIONS,
            "publish a SavedModel, Keras or ONNX file that another program wrote",
            "fovea import saved_model --name cells --labels labels.txt",
        ),
        _pipeline(
            "quantize",
            _VERSIONS,
            "publish a version again with an int8 model that proves equivalent",
            "fovea quantize cells",
            "fovea quantize cells --images pictures",
        ),
        _pipeline(
            "imagenet",
            _VERSIONS,
            "publish a 1000-class ImageNet network of Keras's with its labels",
            "fovea imagenet --backbone MobileNetV2",
        ),
        _pipeline(
            "sync",
            _VERSIONS,
            "copy a model store from object storage into a folder, or back",
            "fovea sync s3://bucket/models models",
            "fovea sync models s3://bucket/models",
            "fovea sync s3://bucket/models /models --watch 5",
            extras=(*WITHOUT_TENSORFLOW, "sync"),
        ),
        _pipeline(
            "prune",
            _VERSIONS,
            "delete old versions, what old runs left behind, the cache",
            "fovea prune --keep 3 --dry-run",
            extras=WITHOUT_TENSORFLOW,
        ),
        _service(
            "serve",
            "service.up",
            "run model server and gateway on this machine",
            "fovea serve",
            "fovea serve --port 8001",
            "fovea serve --engine tfserving",
            extras=SERVER,
        ),
        _service(
            "predict",
            "service.predict",
            "classify image files with a running service",
            "fovea predict cell.png",
            "fovea predict cell.png --top 1 --json",
            extras=("client",),
        ),
        _service(
            "gateway",
            "service.gateway.cli",
            "run the gateway alone",
            "fovea gateway --models-dir models --backend 127.0.0.1:8500",
            extras=("gateway", "tensorflow"),
        ),
        _service(
            "modelserver",
            "service.modelserver.cli",
            "run the embedded model server alone",
            "fovea modelserver --port 8500 --model_config_file models/models.config",
            extras=("modelserver", "tensorflow"),
        ),
        _service(
            "key",
            "service.key",
            "make, list and remove API keys",
            "fovea key add ward --keys keys.json",
            "fovea key list --keys keys.json",
            extras=("gateway",),
        ),
        Command(
            "completion",
            _OTHER,
            "print the completion script of a shell",
            "fovea.completion",
            "completion",
            (),
            (
                "fovea completion bash > ~/.local/share/bash-completion/completions/fovea",
                "fovea completion zsh > ~/.zfunc/_fovea",
                "fovea completion fish > ~/.config/fish/completions/fovea.fish",
            ),
        ),
    )
}
# Names of `python -m pipeline` and `python -m service`.
ALIASES = {"run": "train", "up": "serve"}
