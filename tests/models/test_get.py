"""Networks are built by name, in any spelling; invalid arguments raise clear errors."""

import keras
import pytest

from keras_dtkd import models
from keras_dtkd.models.registry import match_name


@pytest.mark.parametrize(
    "spelling, name",
    [
        ("resnet8x4", "resnet8x4"),
        ("ResNet20", "resnet20"),
        ("res20", "resnet20"),
        ("WRN-16-2", "wrn_16_2"),
        ("wrn_16_2", "wrn_16_2"),
        ("VGG8", "vgg8"),
        ("MobileNetV2", "mobilenetv2"),
        ("MV2", "mobilenetv2"),
        ("ShuffleV1", "shufflev1"),
        ("ShuffleNetV2", "shufflev2"),
        ("ShuffleNet-V2", "shufflev2"),
    ],
)
def test_spellings_of_the_literature_match(spelling, name):
    assert match_name(spelling) == name


def test_the_model_has_the_canonical_name():
    assert models.get("ResNet-8").name == "resnet8"


def test_an_unknown_name_raises_with_the_known_names():
    with pytest.raises(ValueError, match="unknown network .resnet9.") as error:
        models.get("resnet9")
    assert all(name in str(error.value) for name in models.MODEL_NAMES)


@pytest.mark.parametrize("classes", [0, -1, 10.0, "10", None])
def test_num_classes_must_be_a_positive_integer(classes):
    with pytest.raises(ValueError, match="num_classes"):
        models.get("resnet8", num_classes=classes)


@pytest.mark.parametrize(
    "shape, data_format",
    [
        ((3, 32, 32), "channels_last"),
        ((32, 32, 3), "channels_first"),
        ((4, 4, 3), "channels_last"),
        ((32, 32), "channels_last"),
        ((None, None, 3), "channels_last"),
        (32, "channels_last"),
        ((32.0, 32.0, 3), "channels_last"),
        ((32, 32, 0), "channels_last"),
        ((-3, 32, 32), "channels_first"),
    ],
)
def test_an_input_shape_that_does_not_fit_the_data_format_raises(shape, data_format):
    with pytest.raises(ValueError, match=f"with {data_format}, `input_shape` must"):
        models.get("resnet8", input_shape=shape, data_format=data_format)


def test_an_unknown_data_format_raises():
    with pytest.raises(ValueError, match="'channels_last', 'channels_first', None"):
        models.get("resnet8", data_format="NHWC")


def test_the_data_format_defaults_to_that_of_keras():
    before = keras.config.image_data_format()
    try:
        keras.config.set_image_data_format("channels_first")
        assert models.get("resnet8").input_shape == (None, 3, 32, 32)
        keras.config.set_image_data_format("channels_last")
        assert models.get("resnet8").input_shape == (None, 32, 32, 3)
    finally:
        keras.config.set_image_data_format(before)
