"""VGG19 by hand, which takes Keras's published weights of the layers before its head.

python -m pipeline weights VGG19
python -m pipeline run DATASET --set model.backbone=docs/lectures/vgg19_by_hand.py:build \
    --set model.weights=~/.keras/models/vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5 \
    --set model.preprocessing=caffe --set model.input_size=224
"""

import keras
from keras import layers

BLOCKS = ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512))  # convolutions and their filters


def build(input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Build five blocks of 3x3 convolutions, and a head of one dense layer."""
    images = keras.Input(input_shape)
    x = images
    for number, (count, filters) in enumerate(BLOCKS, 1):
        for i in range(1, count + 1):
            name = f"block{number}_conv{i}"
            x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=name)(x)
        x = layers.MaxPooling2D(2, name=f"block{number}_pool")(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.2)(x)
    return keras.Model(images, layers.Dense(num_classes, activation="softmax")(x))
