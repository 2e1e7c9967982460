"""Networks of the user's own: lists of Keras layers and Python files, built, taken apart, refused by line."""

from itertools import pairwise
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipeline.errors import RecipeError
from pipeline.networks.network import Classifier, build_classifier
from pipeline.networks.saliency import carry_back
from pipeline.networks.weights import Weights
from pipeline.recipe.recipe import load_recipe

NOTHING = Weights("none", None)
STRAIGHT = """
model:
  input_size: 16
  weights: none
  layers:
    - Conv2D: {filters: 4, kernel_size: 3, activation: relu, kernel_regularizer: {L2: 0.001}}
    - BatchNormalization
    - MaxPooling2D: {pool_size: 2}
    - Flatten
    - Dense: {units: 8, activation: tanh}
    - BatchNormalization
    - Dropout: {rate: 0.5}
train: {freeze_backbone: false}
"""


def from_yaml(folder: Path, text: str, *, classes: int = 3, channels: int = 3) -> Classifier:
    path = folder / "net.yaml"
    path.write_text(text)
    return build_classifier(load_recipe(str(path)).model, NOTHING, num_classes=classes, channels=channels)


def from_file(folder: Path, code: str, *, function: str = "build", classes: int = 3) -> Classifier:
    path = folder / "net.py"
    path.write_text(code)
    settings = [f"model.backbone={path}:{function}", "model.weights=none", "model.input_size=16"]
    return build_classifier(load_recipe("default", settings).model, NOTHING, num_classes=classes, channels=3)


def check_map(classifier: Classifier) -> None:
    """The head's gradient by hand is tf.GradientTape's."""
    head = classifier.head_layers
    between = keras.Model(classifier.feature_map, [layer.output for layer in head])
    maps = tf.random.normal((3, *classifier.feature_map.shape[1:]), seed=1)
    classes = tf.one_hot([0, 1, 2], 3)
    with tf.GradientTape() as tape:
        tape.watch(maps)
        score = tf.reduce_sum(between(maps, training=False)[-1] * classes)
    expected = tf.reduce_mean(tape.gradient(score, maps), axis=[1, 2]).numpy()
    values = [maps, *between(maps, training=False)]
    pairs = list(pairwise(values))

    assert np.allclose(expected, carry_back(head, pairs, classes).numpy(), rtol=1e-3, atol=1e-6)


def test_list_is_built_as_it_says(tmp_path: Path) -> None:
    """Layers come in order, Keras has their settings, the classes' layer and a map of the last pool are added."""
    classifier = from_yaml(tmp_path, STRAIGHT)

    kinds = [type(layer).__name__ for layer in classifier.model.layers]
    assert ["InputLayer", "Conv2D", "BatchNormalization", "MaxPooling2D", "Flatten"] == kinds[:5]
    assert ["Dense", "BatchNormalization", "Dropout", "Dense", "Activation"] == kinds[5:]
    assert (3, (7, 7, 4), "grad-cam") == (
        classifier.logits.shape[-1],
        tuple(classifier.feature_map.shape[1:]),
        classifier.saliency,
    )
    assert isinstance(classifier.model.layers[1].kernel_regularizer, keras.regularizers.L2)
    classifier.model.layers[6].set_weights([np.linspace(0.5, 2, 8)] + [np.linspace(-1, 1, 8)] * 2 + [np.ones(8) * 3])
    check_map(classifier)


def test_list_may_end_with_the_layer_of_classes(tmp_path: Path) -> None:
    """Dense(classes, softmax) at the end is that layer; of another width it is refused."""
    end = "    - Dense: {units: 3, activation: softmax}\ntrain"
    classifier = from_yaml(tmp_path, STRAIGHT.replace("train", end))

    assert "Dense Activation" == " ".join(type(layer).__name__ for layer in classifier.model.layers[-2:])
    probabilities = classifier.model(np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32))
    assert np.allclose(1, np.asarray(probabilities).sum(axis=1), atol=1e-6)
    with pytest.raises(RecipeError, match=r"net.yaml line 13: Dense: expected 4 units.*Received: 3"):
        from_yaml(tmp_path, STRAIGHT.replace("train", end), classes=4)


@pytest.mark.parametrize(
    ("line", "text", "words"),
    [
        (6, "Conv2d: {filters: 4, kernel_size: 3}", "Conv2d: there is no layer of this name.* did you mean Conv2D?"),
        (6, "Conv2D: {filters: 4}", "Conv2D: .*missing 1 required .*kernel_size"),
        (6, "Conv2D: {filters: 4, kernel: 3}", "Conv2D: unknown setting kernel: did you mean kernel_size?"),
        (6, "Conv2D: {filters: 0, kernel_size: 3}", "Conv2D: .*filters"),
        (6, "Conv2D: {filters: 4, kernel_size: 3, activation: rellu}", "Conv2D: .*rellu"),
        (6, "Conv2D: {filters: 4, kernel_size: 17}", "Conv2D (cannot follow|leaves nothing).* 16, 16, 3"),
        (
            6,
            "Conv2D: {filters: 4, kernel_size: 3, kernel_regularizer: {L3: 1}}",
            "Conv2D: kernel_regularizer: unknown name L3",
        ),
        (7, "Lambda: {function: 'lambda x: x'}", "Lambda is not allowed: it runs code"),
        (7, "TFSMLayer: {filepath: x}", "TFSMLayer is not allowed"),
        (7, "Add", "Add cannot follow"),
        (7, "Hashing: {num_bins: 3}", "Hashing is not allowed: its output is categories"),
        (7, "Rescaling: {scale: x}", "Rescaling cannot be run: .*string"),
        (7, "Discretization: {num_bins: 3}", "Discretization cannot be run: You need to .*bin_boundaries"),
        (7, "Reshape: {target_shape: [5, 5]}", "Reshape cannot follow, [^\x1b]*target_shape=.5, 5.$"),
        (7, "Layer", "Layer: there is no layer of this name"),
        (9, "GlobalAveragePoolin2D", "GlobalAveragePoolin2D: .*did you mean GlobalAveragePooling2D?"),
        (10, "MaxPooling2D", "MaxPooling2D cannot follow"),
        (
            10,
            "Activation: {activation: {class_name: x}}",
            "Activation: activation: expected a number, a text or a list",
        ),
    ],
)
def test_mistakes_in_a_list_name_the_line(tmp_path: Path, line: int, text: str, words: str) -> None:
    """A wrong layer, setting or order is refused with the line of the file."""
    lines = STRAIGHT.splitlines()
    lines[line - 1] = f"    - {text}"

    with pytest.raises(RecipeError, match=f"net.yaml line {line}: {words}"):
        from_yaml(tmp_path, "\n".join(lines))


@pytest.mark.parametrize("entry", ["3", "{Conv2D: 3}", "{ReLU: , Flatten: }"])
def test_entries_of_another_form_name_the_line(tmp_path: Path, entry: str) -> None:
    """An entry that is no name with settings is refused with the line of the file."""
    lines = STRAIGHT.splitlines()
    lines[6] = f"    - {entry}"

    with pytest.raises(RecipeError, match=r"model.layers, net.yaml line 7: expected a name"):
        from_yaml(tmp_path, "\n".join(lines))


def test_two_layers_of_one_name_are_refused(tmp_path: Path) -> None:
    """The second one's line is named, and the first one's."""
    lines = STRAIGHT.splitlines()
    lines[6], lines[7] = "    - ReLU: {name: twin}", "    - ReLU: {name: twin}"

    with pytest.raises(RecipeError, match=r"net.yaml line 8: ReLU: name: .* of net.yaml line 7. Received: twin"):
        from_yaml(tmp_path, "\n".join(lines))


def test_list_without_flatten_is_refused(tmp_path: Path) -> None:
    """The layer of classes needs a row of numbers."""
    with pytest.raises(RecipeError, match=r"line 8: MaxPooling2D: expected an output of shape .*add Flatten"):
        from_yaml(tmp_path, "\n".join([*STRAIGHT.splitlines()[:8], "train: {freeze_backbone: false}"]))


@pytest.mark.parametrize(
    "layers", ["3", "[{Conv2D: 3}]", "[{Conv2D: {filters: 3}, Flatten: }]", "[3]", "[]", "{Conv2D: {}}"]
)
def test_lists_of_another_form_are_refused(layers: str) -> None:
    """What is no list of names is refused before Keras is asked."""
    with pytest.raises(RecipeError, match="layers"):
        load_recipe("default", [f"model.layers={layers}"])


def test_list_and_backbone_exclude_each_other() -> None:
    """A backbone beside a list is refused; a backbone in place of a shipped recipe's list is taken."""
    with pytest.raises(RecipeError, match=r"model.backbone: expected none beside model.layers"):
        load_recipe("default", ["model.layers=[Flatten]", "model.backbone=LeNet"])

    model = load_recipe("conv2-pool", ["model.backbone=LeNet"]).model
    assert ("LeNet", None) == (model.backbone, model.layers)


INCEPTION = """
import keras
from keras import layers

def build(input_shape, num_classes):
    images = keras.Input(input_shape)
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(images)
    side = layers.GlobalAveragePooling2D()(x)
    side = layers.Dense(num_classes, activation="softmax", name="aux")(side)
    x = layers.Concatenate()([layers.Conv2D(3, k, padding="same", activation="relu")(x) for k in (1, 3, 5)])
    x = layers.MaxPooling2D()(x)
    x = layers.Flatten()(x)
    main = layers.Dense(num_classes, activation="softmax", name="probabilities")(x)
    return keras.Model(images, [main, side])
"""


def test_file_with_an_auxiliary_output(tmp_path: Path) -> None:
    """The served model has the first output alone; training has both and the same layers."""
    classifier = from_file(tmp_path, INCEPTION)

    assert 1 == len(classifier.auxiliary)
    assert "aux" not in [layer.name for layer in classifier.model.layers]
    assert "aux" in [layer.name for layer in classifier.trained_model.layers]
    assert (9, "grad-cam", INCEPTION.encode()) == (
        classifier.embedding_dimension,
        classifier.saliency,
        classifier.source,
    )
    check_map(classifier)


ENDS = {
    "softmax": ("x = layers.Dense(num_classes, activation='softmax')(x)", True),
    "logits": ("x = layers.Dense(num_classes)(x)", False),
    "activation": ("x = layers.Activation('softmax')(layers.Dense(num_classes)(x))", True),
    "layer": ("x = layers.Softmax()(layers.Dense(num_classes)(x))", True),
    "operation": ("x = keras.ops.softmax(layers.Dense(num_classes)(x))", True),
    "by-hand": ("e = keras.ops.exp(layers.Dense(num_classes)(x)); x = e / keras.ops.sum(e, -1, keepdims=True)", True),
}
PLAIN = """
import keras
from keras import layers

def build(input_shape, num_classes):
    images = keras.Input(input_shape)
    x = layers.Conv2D(4, 3, activation="relu")(images)
    x = layers.Flatten()(x)
    {end}
    build.model = keras.Model(images, x)
    return build.model
"""


@pytest.mark.parametrize("end", ENDS)
def test_ends_of_every_form_give_the_same_probabilities(tmp_path: Path, end: str) -> None:
    """Softmax as an activation, a layer or an operation, by hand or left out: probabilities are the model's."""
    words, gives_probabilities = ENDS[end]
    before = keras.utils.set_random_seed
    before(3)
    classifier = from_file(tmp_path, PLAIN.format(end=words))
    pixels = np.random.default_rng(0).normal(size=(4, 16, 16, 3)).astype(np.float32)

    probabilities = np.asarray(classifier.model(pixels))
    logits = np.asarray(keras.Model(classifier.model.input, classifier.logits)(pixels))

    dense = next(layer for layer in classifier.model.layers if isinstance(layer, keras.layers.Dense))
    kernel, bias = dense.get_weights()
    expected = np.asarray(keras.Model(classifier.model.input, dense.input)(pixels)) @ kernel + bias
    exponents = np.exp(expected - expected.max(axis=1, keepdims=True))
    assert np.allclose(exponents / exponents.sum(axis=1, keepdims=True), probabilities, atol=1e-5), gives_probabilities
    assert np.allclose(
        logits - logits.mean(axis=1, keepdims=True), expected - expected.mean(axis=1, keepdims=True), atol=1e-3
    )


SHAPES = {
    "mlp": "x = layers.Flatten()(images); x = layers.Dense(7, activation='relu')(x); x = layers.Dense(num_classes)(x)",
    "nested": "x = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(64, 64, 3))(images)\n"
    "    x = layers.Dense(num_classes)(layers.GlobalAveragePooling2D()(x))",
    "max": "x = layers.GlobalMaxPooling2D()(layers.Conv2D(5, 3)(images)); x = layers.Dense(num_classes)(x)",
}


@pytest.mark.parametrize(
    ("shape", "saliency", "dimension"), [("mlp", None, 7), ("nested", "cam", 1280), ("max", None, 5)]
)
def test_maps_are_left_out_where_there_are_none(
    tmp_path: Path, shape: str, saliency: str | None, dimension: int
) -> None:
    """Without convolutions, or behind a layer without a rule, saliency is null; the embedding stays."""
    code = PLAIN.replace('    x = layers.Conv2D(4, 3, activation="relu")(images)\n    x = layers.Flatten()(x)\n', "")
    path = tmp_path / "net.py"
    path.write_text(code.format(end=SHAPES[shape]))
    settings = [f"model.backbone={path}", "model.weights=none", "model.input_size=64"]

    model = load_recipe("default", settings).model
    classifier = build_classifier(model, NOTHING, num_classes=3, channels=3)

    assert (saliency, dimension) == (classifier.saliency, classifier.embedding_dimension)


def test_subclass_and_sequential_are_taken(tmp_path: Path) -> None:
    """A model without a graph of its own becomes one layer; a Sequential without an input is built."""
    code = (
        "import keras\nclass Net(keras.Model):\n    def __init__(self, n):\n        super().__init__()\n"
        "        self.flat, self.out = keras.layers.Flatten(), keras.layers.Dense(n)\n"
        "    def call(self, x):\n        return self.out(self.flat(x))\n"
        "def build(input_shape, num_classes):\n    return Net(num_classes)\n"
        "def straight(input_shape, num_classes):\n"
        "    return keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(num_classes, activation='softmax')])\n"
    )
    for function in ("build", "straight"):
        classifier = from_file(tmp_path, code, function=function)
        assert (None, (None, 3)) == (classifier.saliency, tuple(classifier.logits.shape))


COUNTS = """
import keras

class Counts(keras.layers.Layer):
    def build(self, shape):
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x):
        self.count.assign_add(1.0)
        return x
"""


def test_layers_may_have_any_name(tmp_path: Path) -> None:
    """The softmax that is added takes a name that no layer has."""
    code = PLAIN.format(
        end="for name in ('probabilities', 'served_probabilities', 'served_served_probabilities'):\n"
        "        x = layers.Dense(num_classes, name=name)(x)"
    )

    assert 4 == sum("probabilities" in layer.name for layer in from_file(tmp_path, code).model.layers)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("def build(input_shape, num_classes:\n    pass\n", r"net.py line 1: "),
        ("x = 1\ny = x / 0\n", "net.py line 2: ZeroDivisionError: division by zero"),
        ("def biuld(a, b): pass\n", "net.py has no function build: did you mean biuld?"),
        ("def other(a, b): pass\n", "the file's functions are other"),
        ("build = 3\n", "has no function build: the file's functions are none"),
        ("def build(shape):\n    return shape\n", "net.py line 1: build is called with input_shape and num_classes: "),
        ("def build(a, b):\n    return None\n", "net.py:build: expected a keras.Model. Received: NoneType"),
        ("def build(a, b):\n    raise SystemExit(3)\n", "net.py line 2: SystemExit: 3"),
        ("import no_such_module_at_all\n", "net.py line 1: ModuleNotFoundError: "),
        (
            PLAIN.format(end="x = layers.Conv2D(4, 99)(x)"),
            "net.py line 9: ValueError: ",
        ),
        (PLAIN.format(end="x = layers.Dense(7)(x)"), r"its output: expected shape \(batch, 3\).* \(batch, 7\)"),
        (PLAIN.format(end="x = layers.Dense(1, activation='sigmoid')(x)"), r"Received: \(batch, 1\)"),
        (PLAIN.format(end="x = layers.Dense(num_classes, activation='sigmoid')(x)"), "softmax, or none.* sigmoid"),
        (PLAIN.format(end="x = keras.ops.sigmoid(layers.Dense(num_classes)(x))"), "softmax, or none.* sigmoid"),
        (PLAIN.format(end="x = layers.ReLU()(layers.Dense(num_classes)(x))"), "softmax, or none.* relu"),
        (
            PLAIN.format(end="x = {'b': layers.Dense(3)(x), 'a': layers.Dense(3)(x)}"),
            "expected one output.* dict of b, a",
        ),
        (
            COUNTS + PLAIN.format(end="x = layers.Dense(3)(Counts()(x))"),
            "expected layers whose weights stay as they are",
        ),
        (PLAIN.format(end="pass").replace("Flatten()", "ReLU()"), r"Received: \(batch, 14, 14, 4\)"),
        (PLAIN.format(end="x = layers.Dense(3)(x)").replace("Input(input_shape)", "Input((8, 8, 3))"), "one input of"),
    ],
)
def test_mistakes_in_a_file_are_plain(tmp_path: Path, code: str, words: str) -> None:
    """What the file does wrong is one line with the file's own line."""
    with pytest.raises(RecipeError, match=words) as caught:
        from_file(tmp_path, code)

    assert "\n" not in str(caught.value)


def test_missing_file_is_named_with_its_neighbour(tmp_path: Path) -> None:
    """A misspelt file is refused with the nearest name."""
    (tmp_path / "inception.py").write_text("")
    model = load_recipe("default", [f"model.backbone={tmp_path / 'incepton.py'}:build"]).model

    with pytest.raises(RecipeError, match=r"incepton.py cannot be read: No such file.*did you mean .*inception.py?"):
        build_classifier(model, NOTHING, num_classes=3, channels=3)
