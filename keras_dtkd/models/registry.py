"""The networks by name."""

import numbers
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import keras

from keras_dtkd import backend
from keras_dtkd.core.model_pairs import normalize_model_name
from keras_dtkd.models import resnet
from keras_dtkd.models.mobilenetv2 import mobilenetv2
from keras_dtkd.models.shufflev1 import shufflev1
from keras_dtkd.models.shufflev2 import shufflev2
from keras_dtkd.models.vgg import vgg
from keras_dtkd.models.wide_resnet import wide_resnet

NETWORKS: dict[str, Callable[..., Any]] = {
    "resnet8": partial(resnet.cifar_resnet, depth=8),
    "resnet14": partial(resnet.cifar_resnet, depth=14),
    "resnet20": partial(resnet.cifar_resnet, depth=20),
    "resnet32": partial(resnet.cifar_resnet, depth=32),
    "resnet44": partial(resnet.cifar_resnet, depth=44),
    "resnet56": partial(resnet.cifar_resnet, depth=56),
    "resnet110": partial(resnet.cifar_resnet, depth=110),
    "resnet8x4": partial(resnet.cifar_resnet, depth=8, width=64, stem=32),
    "resnet32x4": partial(resnet.cifar_resnet, depth=32, width=64, stem=32),
    "resnet18": resnet.resnet18,
    "resnet50": resnet.resnet50,
    "wrn_16_1": partial(wide_resnet, depth=16, factor=1),
    "wrn_16_2": partial(wide_resnet, depth=16, factor=2),
    "wrn_40_1": partial(wide_resnet, depth=40, factor=1),
    "wrn_40_2": partial(wide_resnet, depth=40, factor=2),
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
    """The name in `MODEL_NAMES` that this is a spelling of, or `None`."""
    return {normalize_model_name(known): known for known in MODEL_NAMES}.get(
        normalize_model_name(name)
    )


def get(name, num_classes=100, input_shape=None, data_format=None):
    """A network of the CIFAR distillation literature, newly initialized.

    Its feature maps are outputs of layers with fixed names: `"stem"`, `"stage1"`,
    `"stage2"`, ..., their pre-activations `"stage1_preact"`, ..., `"pooled"` and
    `"logits"`.
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
    model_name = match_name(name)
    if model_name is None:
        raise ValueError(
            f"`models.get`: unknown network {name!r}. Choose one of: "
            f"{', '.join(MODEL_NAMES)}."
        )
    if not isinstance(num_classes, numbers.Integral) or num_classes < 1:
        raise ValueError(
            "`models.get`: `num_classes` must be an integer of at least 1. "
            f"Received: num_classes={num_classes!r}."
        )
    data_format = data_format or keras.config.image_data_format()
    if data_format not in ("channels_last", "channels_first"):
        raise ValueError(
            "`models.get`: `data_format` must be 'channels_last', 'channels_first' or "
            f"None. Received: data_format={data_format!r}."
        )
    if data_format == "channels_first" and not backend.runs_channels_first():
        raise ValueError(
            "`models.get`: this TensorFlow has no convolutions for "
            "data_format='channels_first'. Set the environment variable "
            "TF_ENABLE_ONEDNN_OPTS=1 before TensorFlow is imported, or use "
            "data_format='channels_last'."
        )
    inputs = keras.Input(_resolve_input_shape(input_shape, data_format), name="images")
    logits = NETWORKS[model_name](inputs, int(num_classes), data_format)
    return keras.Model(inputs, logits, name=model_name)


def _resolve_input_shape(input_shape, data_format):
    channels_last = data_format == "channels_last"
    if input_shape is None:
        return (32, 32, 3) if channels_last else (3, 32, 32)
    sizes = input_shape if isinstance(input_shape, Iterable) else ()
    shape = tuple(int(n) if isinstance(n, numbers.Integral) else 0 for n in sizes)
    sides = shape[:2] if channels_last else shape[1:]
    if len(shape) != 3 or min(shape) < 1 or min(sides) < MIN_SIDE:
        order = (
            "(height, width, channels)"
            if channels_last
            else "(channels, height, width)"
        )
        raise ValueError(
            f"`models.get`: with {data_format}, `input_shape` must be {order}, "
            f"positive integers, with sides of at least {MIN_SIDE}. Received: "
            f"input_shape={input_shape}."
        )
    return shape
