"""A training loop with tf.GradientTape, in place of Fovea's own; the model is then imported and served.

python docs/lectures/gradient_tape.py DATASET/train model.keras labels.txt --epochs 5
python -m pipeline import model.keras --name tape --labels labels.txt --preprocessing unit
"""

import argparse
from pathlib import Path

import keras
import tensorflow as tf
from keras import layers


def build(num_classes: int, size: int) -> keras.Model:
    """Build a small CNN of grey images."""
    images = keras.Input((size, size, 1))
    x = layers.Conv2D(16, 3, activation="relu")(images)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Conv2D(32, 3, activation="relu")(x)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Flatten()(x)
    return keras.Model(images, layers.Dense(num_classes, activation="softmax")(x))


def main() -> None:
    """Train step by step: forward, loss, gradients, update."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, help="<class>/<image>")
    parser.add_argument("model", type=Path, help="the .keras file to write")
    parser.add_argument("labels", type=Path, help="the file of class names to write")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--size", type=int, default=28)
    arguments = parser.parse_args()
    keras.utils.set_random_seed(0)
    dataset = keras.utils.image_dataset_from_directory(
        arguments.folder, color_mode="grayscale", image_size=(arguments.size, arguments.size), batch_size=32, seed=0
    )
    arguments.labels.write_text("\n".join(dataset.class_names) + "\n", encoding="utf-8")
    model = build(len(dataset.class_names), arguments.size)
    optimizer = keras.optimizers.SGD(0.05, momentum=0.9)
    loss_of = keras.losses.SparseCategoricalCrossentropy()

    @tf.function
    def step(images: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = loss_of(targets, model(images / 255.0, training=True))
        optimizer.apply_gradients(
            zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables, strict=True)
        )
        return loss

    for epoch in range(arguments.epochs):
        loss = keras.metrics.Mean()
        for images, targets in dataset:
            loss.update_state(step(images, targets))
        print(f"epoch {epoch + 1}: loss {float(loss.result()):.3f}")
    model.save(arguments.model)


if __name__ == "__main__":
    main()
