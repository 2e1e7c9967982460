"""Names of the ways to turn pixels of 0-255 into the numbers that a network takes."""

from typing import Literal

# "caffe", "tf" and "torch" are Keras's own (keras.applications.imagenet_utils.preprocess_input): BGR minus the ImageNet
# mean, [-1, 1], and ImageNet-normalised. "unit" is [0, 1]; "none" leaves pixels as they are.
Mode = Literal["none", "unit", "tf", "caffe", "torch"]
ColorOrder = Literal["rgb", "bgr"]
