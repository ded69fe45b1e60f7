"""Networks are found by any of their names; a wrong use is one clear error."""

import keras
import pytest

from keras_dtkd import backend, models
from tests.scripts import start_script


@pytest.mark.parametrize(
    "given, name",
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
def test_spellings_of_the_literature_are_understood(given, name):
    assert models.get(given).name == name


def test_an_unknown_name_is_answered_with_the_list():
    with pytest.raises(ValueError, match="no network 'resnet9'") as error:
        models.get("resnet9")
    assert all(name in str(error.value) for name in models.MODEL_NAMES)


@pytest.mark.parametrize("classes", [0, -1, 10.0, "10", None])
def test_a_number_of_classes_that_is_none_is_refused(classes):
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
def test_a_shape_that_does_not_fit_the_data_format_is_refused(shape, data_format):
    with pytest.raises(ValueError, match=f"with {data_format}, `input_shape` must"):
        models.get("resnet8", input_shape=shape, data_format=data_format)


def test_an_unknown_data_format_is_refused():
    with pytest.raises(ValueError, match="'channels_last', 'channels_first' or None"):
        models.get("resnet8", data_format="NHWC")


def test_the_data_format_is_that_of_keras():
    before = keras.config.image_data_format()
    try:
        keras.config.set_image_data_format("channels_first")
        assert models.get("resnet8").input_shape == (None, 3, 32, 32)
        keras.config.set_image_data_format("channels_last")
        assert models.get("resnet8").input_shape == (None, 32, 32, 3)
    finally:
        keras.config.set_image_data_format(before)


def test_channels_first_is_refused_where_tensorflow_cannot_run_it():
    if keras.config.backend() != "tensorflow":
        assert backend.runs_channels_first()
        return
    code = (
        "import tensorflow as tf; tf.config.set_visible_devices([], 'GPU')\n"
        "from keras_dtkd import models\n"
        "models.get('resnet8', data_format='channels_first')"
    )
    done = start_script("-c", code, TF_ENABLE_ONEDNN_OPTS="0")
    message = done.stderr.strip().splitlines()[-1]
    assert message.startswith("ValueError: `models.get`: this TensorFlow has no")
    assert "TF_ENABLE_ONEDNN_OPTS=1" in message
