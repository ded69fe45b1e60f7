"""Invalid arguments raise clear errors, before any data is read or batched."""

import numpy as np
import pytest

from keras_dtkd.datasets import from_arrays, load_arrays
from keras_dtkd.datasets.pipeline import ImagePipeline

pytest.importorskip("tensorflow")

IMAGES = np.arange(1, 201, dtype="uint8")[:, None, None, None].repeat(12, 1)
IMAGES = IMAGES.repeat(12, 2)
LABELS = np.arange(200) % 7
TRAIN, TEST = (IMAGES, LABELS), (IMAGES[:50], LABELS[:50])
INVALID = [
    ({"batch_size": 0}, "`batch_size` must be an integer between 1"),
    ({"batch_size": 32.0}, "`batch_size` .* integer .* Received: batch_size=32.0"),
    ({"batch_size": None}, "`batch_size` .* integer .* Received: batch_size=None"),
    ({"augmentations_per_image": 2.5}, "`augmentations_per_image` .* integer.*=2.5"),
    ({"validation": 1.5}, "`validation` must be a finite number from 0 to 1"),
    ({"validation": "0.1"}, "`validation` must be .* validation='0.1'"),
    ({"first_epoch": -1}, "`first_epoch` must be an integer between 0"),
    ({"first_epoch": 1.5}, "`first_epoch` .* integer .* Received: first_epoch=1.5"),
    ({"first_epoch": 1, "seed": None}, "required by `first_epoch`.* seed=None"),
    ({"seed": 1.5}, "`seed` .* integer .* Received: seed=1.5"),
    ({"seed": 2**63}, r"`seed` must .* 2\*\*63 - 1"),
    ({"data_format": "last"}, "`data_format` must be one of"),
    ({"std": (0.1, 0.0)}, "`std` must be positive"),
    ({"std": float("nan")}, "`std` must be positive"),
]


@pytest.mark.parametrize("options, message", INVALID)
def test_an_invalid_argument_raises_before_any_data_is_read(options, message):
    options = {"batch_size": 32, "augment": True, "seed": 0, **options}
    with pytest.raises(ValueError, match=f"`caller`: .*{message}"):
        ImagePipeline("caller", **options)


@pytest.mark.parametrize("fraction", ["0.1", None])
def test_a_fraction_must_be_a_number(fraction):
    with pytest.raises(
        ValueError, match="`load_arrays`: `validation` must be a finite"
    ):
        load_arrays("digits", validation=fraction)


@pytest.mark.parametrize(
    "train, options, message",
    [
        ((IMAGES[..., 0], LABELS), {}, r"images must .* images \(200, 12, 12\)"),
        ((IMAGES, LABELS[1:]), {}, r"one label each.*labels \(199,\)"),
        ((IMAGES[:0], LABELS[:0]), {}, "images must have the shape"),
        (TRAIN, {"mean": (0.1, 0.2)}, r"`mean` must fit 1 channels"),
        ((IMAGES, LABELS.astype(str)), {}, "labels must be numeric. Received: <U"),
    ],
)
def test_arrays_that_do_not_fit_raise(train, options, message):
    with pytest.raises(ValueError, match=message):
        from_arrays(train, TEST, **options)


@pytest.mark.parametrize(
    "train, test, name, received",
    [
        (IMAGES, LABELS, "train", "ndarray"),
        (TRAIN, IMAGES, "test", "ndarray"),
        (TRAIN, None, "test", "NoneType"),
        ((*TRAIN, LABELS), TEST, "train", "tuple of length 3"),
    ],
)
def test_data_must_be_pairs(train, test, name, received):
    message = rf"`{name}` must be a pair, .*: {received}\."
    with pytest.raises(ValueError, match=message):
        from_arrays(train, test)


def test_pixels_between_0_and_1_raise():
    scaled = (IMAGES / np.float32(255), LABELS)
    with pytest.raises(ValueError, match="maximum of 0.784. Multiply them by 255"):
        from_arrays(scaled, TEST)


@pytest.mark.parametrize(
    "images, received",
    [
        (
            (IMAGES / 255 - 0.5) / 0.25,
            "float64 .* minimum of -1.98 .* of 1.14. Pass them",
        ),
        (IMAGES.astype("uint16") * 257, "uint16 .* maximum of 5.14e.04"),
        (np.full(IMAGES.shape, np.nan), "float64 .* nan"),
    ],
)
def test_pixels_outside_0_to_255_raise(images, received):
    for train, test in (((images, LABELS), TEST), (TRAIN, (images, LABELS))):
        with pytest.raises(ValueError, match=f"between 0 and 255.*{received}"):
            from_arrays(train, test)


def test_overshoot_of_resizing_raises_with_a_hint():
    images = np.full((2, 8, 8, 3), 300.0, "float32")
    with pytest.raises(ValueError, match="np.clip"):
        from_arrays((images, [0, 1]), (images, [0, 1]))
