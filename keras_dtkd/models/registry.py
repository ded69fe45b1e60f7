"""The networks by name."""

import numbers
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import keras
import numpy as np

from keras_dtkd import backend
from keras_dtkd.core.arguments import check_choice, check_positive_int
from keras_dtkd.core.model_pairs import normalize_model_name
from keras_dtkd.models.mobilenetv2 import mobilenetv2
from keras_dtkd.models.resnet import resnet, wide_resnet
from keras_dtkd.models.shufflenet import shufflev1, shufflev2
from keras_dtkd.models.vgg import vgg

IMAGENET = {"width": 64, "stem": 64, "shortcut": "shortcut"}
# From symbolic images, a number of classes and a data format to logits.
NETWORKS: dict[str, Callable[..., Any]] = {
    **{
        f"resnet{depth}": partial(resnet, repeats=3 * [(depth - 2) // 6])
        for depth in (8, 14, 20, 32, 44, 56, 110)
    },
    "resnet8x4": partial(resnet, repeats=(1, 1, 1), width=64, stem=32),
    "resnet32x4": partial(resnet, repeats=(5, 5, 5), width=64, stem=32),
    "resnet18": partial(resnet, repeats=(2, 2, 2, 2), **IMAGENET),
    "resnet50": partial(resnet, repeats=(3, 4, 6, 3), bottleneck=True, **IMAGENET),
    **{
        f"wrn_{depth}_{factor}": partial(wide_resnet, depth=depth, factor=factor)
        for depth in (16, 40)
        for factor in (1, 2)
    },
    "vgg8": partial(vgg, repeats=(1, 1, 1, 1, 1)),
    "vgg11": partial(vgg, repeats=(1, 1, 2, 2, 2)),
    "vgg13": partial(vgg, repeats=(2, 2, 2, 2, 2)),
    "vgg16": partial(vgg, repeats=(2, 2, 3, 3, 3)),
    "vgg19": partial(vgg, repeats=(2, 2, 4, 4, 4)),
    "mobilenetv2": mobilenetv2,
    "shufflev1": shufflev1,
    "shufflev2": shufflev2,
}
MODEL_NAMES = tuple(NETWORKS)
# One pixel remains after three halvings.
MIN_SIDE = 8


def match_name(name):
    """The name in `MODEL_NAMES` that this is a spelling of, or a `ValueError`."""
    names = {normalize_model_name(known): known for known in MODEL_NAMES}
    try:
        return names[normalize_model_name(name)]
    except KeyError:
        raise ValueError(
            f"unknown network {name!r}. Choose one of: {', '.join(MODEL_NAMES)}."
        ) from None


def get(name, num_classes=100, input_shape=None, data_format=None):
    """A network of the CIFAR distillation literature, newly initialized.

    Its feature maps are outputs of layers with fixed names: `"stem"`, `"stage1"`, ...,
    their pre-activations `"stage1_preact"`, ..., `"pooled"` and `"logits"`.
    docs/models.md lists them for each network, with sizes and parameters.

    Args:
        name: One of `MODEL_NAMES`, in any case and in the spellings of the literature:
            `"resnet8x4"`, `"WRN-40-2"`, `"ShuffleV1"`, `"MobileNetV2"`.
        num_classes: Number of logits. Positive.
        input_shape: Shape of an image, in the order of `data_format`. Sides of at
            least 8. `None` for 32x32 pixels of three channels.
        data_format: `"channels_last"` or `"channels_first"`. `None` for
            `keras.config.image_data_format()`.

    Returns:
        A functional `keras.Model` from images `(batch, *input_shape)` to logits
        `(batch, num_classes)`. It consists of Keras layers only: once saved, it loads
        without this package.

    Raises:
        ValueError: The name is unknown; another argument is invalid; or TensorFlow
            cannot run `"channels_first"` on this machine.

    Example:

    >>> Distiller(models.get("resnet32x4"), models.get("ShuffleV1")).fit(x, y)
    """
    name = match_name(name)
    num_classes = check_positive_int("models.get", "num_classes", num_classes)
    formats = ("channels_last", "channels_first", None)
    check_choice("models.get", "data_format", data_format, formats)
    data_format = data_format or keras.config.image_data_format()
    if data_format == "channels_first" and not backend.runs_channels_first():
        raise ValueError(
            "`models.get`: this TensorFlow has no convolutions for "
            "data_format='channels_first'. Set the environment variable "
            "TF_ENABLE_ONEDNN_OPTS=1 before TensorFlow is imported, or use "
            "data_format='channels_last'."
        )
    inputs = keras.Input(_resolve_input_shape(input_shape, data_format), name="images")
    logits = NETWORKS[name](inputs, num_classes, data_format)
    return keras.Model(inputs, logits, name=name)


def _resolve_input_shape(input_shape, data_format):
    channels_last = data_format == "channels_last"
    if input_shape is None:
        return (32, 32, 3) if channels_last else (3, 32, 32)
    order, smallest = "(channels, height, width)", (1, MIN_SIDE, MIN_SIDE)
    if channels_last:
        order, smallest = "(height, width, channels)", (MIN_SIDE, MIN_SIDE, 1)
    shape = tuple(input_shape) if isinstance(input_shape, Iterable) else ()
    is_integer = all(isinstance(size, numbers.Integral) for size in shape)
    if len(shape) != 3 or not is_integer or np.less(shape, smallest).any():
        raise ValueError(
            f"`models.get`: with {data_format}, `input_shape` must be {order}, "
            f"positive integers, with sides of at least {MIN_SIDE}. Received: "
            f"input_shape={input_shape}."
        )
    return shape
