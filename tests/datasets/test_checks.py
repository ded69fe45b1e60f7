"""A wrong use is one clear error, before anything is read or the first batch."""

import numpy as np
import pytest

from keras_dtkd.datasets import from_arrays, load_arrays
from keras_dtkd.datasets.pipeline import ImagePipeline

pytest.importorskip("tensorflow")

IMAGES = np.arange(1, 201, dtype="uint8")[:, None, None, None].repeat(12, 1)
IMAGES = IMAGES.repeat(12, 2)
LABELS = np.arange(200) % 7
TRAIN, TEST = (IMAGES, LABELS), (IMAGES[:50], LABELS[:50])
REFUSED = [
    ({"batch_size": 0}, "`batch_size` must be at least 1"),
    ({"batch_size": 32.0}, "`batch_size` .* whole .* Received: batch_size=32.0"),
    ({"batch_size": None}, "`batch_size` .* whole .* Received: batch_size=None"),
    ({"versions": 2.5}, "`versions` .* whole .* Received: versions=2.5"),
    ({"validation": 1.0}, "`validation` is a share"),
    ({"validation": "0.1"}, "`validation` is a share .* validation='0.1'"),
    ({"first_epoch": -1}, "`first_epoch` counts from 0"),
    ({"first_epoch": 1.5}, "`first_epoch` .* whole .* first_epoch=1.5"),
    ({"first_epoch": 1, "seed": None}, "needs its `seed`. Received: seed=None"),
    ({"seed": 1.5}, "`seed` .* whole numbers. Received: seed=1.5"),
    ({"seed": 2**63}, r"`seed` lies from -2\*\*63"),
    ({"data_format": "last"}, "`data_format` is one of"),
    ({"std": (0.1, 0.0)}, "`std` must be positive"),
    ({"std": float("nan")}, "`std` must be positive"),
]


@pytest.mark.parametrize("options, message", REFUSED)
def test_a_wrong_argument_is_refused_before_anything_is_read(options, message):
    options = {"batch_size": 32, "augment": True, "seed": 0, **options}
    with pytest.raises(ValueError, match=f"`mine`: .*{message}"):
        ImagePipeline("mine", **options)


@pytest.mark.parametrize("share", ["0.1", None])
def test_a_share_that_is_no_number_is_refused(share):
    with pytest.raises(ValueError, match="`arrays`: `validation` is a share"):
        load_arrays("digits", validation=share)


@pytest.mark.parametrize(
    "train, options, message",
    [
        ((IMAGES[..., 0], LABELS), {}, r"wants images .* images \(200, 12, 12\)"),
        ((IMAGES, LABELS[1:]), {}, r"a label for each.*labels \(199,\)"),
        ((IMAGES[:0], LABELS[:0]), {}, "wants images"),
        (TRAIN, {"mean": (0.1, 0.2)}, r"`mean` must fit 1 channels"),
        ((IMAGES, LABELS.astype(str)), {}, "wants labels in numbers. Received: <U"),
        ((IMAGES.repeat(3, -1), LABELS), {}, "train have 3 channels .* to test 1"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(train, options, message):
    with pytest.raises(ValueError, match=message):
        from_arrays(train, TEST, **options)


@pytest.mark.parametrize(
    "train, test, name, found",
    [
        (IMAGES, LABELS, "train", "ndarray"),
        (TRAIN, IMAGES, "test", "ndarray"),
        (TRAIN, None, "test", "NoneType"),
        ((*TRAIN, LABELS), TEST, "train", "tuple of 3"),
    ],
)
def test_what_is_no_pair_is_refused(train, test, name, found):
    with pytest.raises(ValueError, match=rf"`{name}` must be a pair, .*: {found}\."):
        from_arrays(train, test)


def test_pixels_from_0_to_1_are_refused():
    bright = (IMAGES / np.float32(255), LABELS)
    with pytest.raises(ValueError, match="of at most 0.784. Multiply them by 255"):
        from_arrays(bright, TEST)


@pytest.mark.parametrize(
    "images, found",
    [
        ((IMAGES / 255 - 0.5) / 0.25, "float64 .* least -1.98 .* most 1.14. Give them"),
        (IMAGES.astype("uint16") * 257, "uint16 .* most 5.14e.04"),
        (np.full(IMAGES.shape, np.nan), "float64 .* nan"),
    ],
)
def test_pixels_that_are_not_from_0_to_255_are_refused(images, found):
    for train, test in (((images, LABELS), TEST), (TRAIN, (images, LABELS))):
        with pytest.raises(ValueError, match=f"wants pixels of 0 to 255.*{found}"):
            from_arrays(train, test)


def test_what_resizing_added_is_to_be_cut_off():
    images = np.full((2, 8, 8, 3), 300.0, "float32")
    with pytest.raises(ValueError, match="np.clip"):
        from_arrays((images, [0, 1]), (images, [0, 1]))
