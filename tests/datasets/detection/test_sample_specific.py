"""SDA: boxes enclose the same pixels after a crop; noise where all boxes are small."""

import numpy as np
import pytest

from keras_dtkd.datasets.detection import DetectionSample, SampleSpecificAugmentation

HEIGHT, WIDTH = 90, 120
# Corners; the areas are above and below 32² pixels.
LARGE = [(10, 20, 50, 70), (60, 5, 110, 40), (70, 50, 118, 88)]
SMALL = [(3, 4, 20, 30), (60, 60, 90, 80)]


def paint(boxes, dtype="float32"):
    """An image in which each box has a color of its own: its number in the red."""
    image = np.zeros((HEIGHT, WIDTH, 3), dtype)
    one = 255 if np.dtype(dtype).kind == "u" else 1
    for number, (left, top, right, bottom) in enumerate(boxes, start=1):
        image[top:bottom, left:right] = one * number / (len(boxes) + 1), one, one / 2
    return image


def sample(boxes, dtype="float32", **options):
    array = np.array(boxes, "float64").reshape(-1, 4)
    labels = np.arange(1, len(boxes) + 1, dtype="int32")
    return DetectionSample(paint(boxes, dtype), array, labels, **options)


def rng(seed):
    return np.random.default_rng(seed)


def encloses_its_color(image, box, number, count):
    """Whether the pixels of a color are those of a box, up to half a pixel's blur."""
    one = 255 if image.dtype.kind == "u" else 1
    red = one * number / (count + 1)
    near = np.abs(image[..., 0].astype(float) - red) < one * 0.02
    own = near & (np.abs(image[..., 2].astype(float) - one / 2) < one * 0.02)
    left, top, right, bottom = box
    inner = own[
        int(np.ceil(top + 0.75)) : int(np.floor(bottom - 0.75)),
        int(np.ceil(left + 0.75)) : int(np.floor(right - 0.75)),
    ]
    outer = own.copy()
    outer[
        max(0, int(np.floor(top - 0.75))) : int(np.ceil(bottom + 0.75)),
        max(0, int(np.floor(left - 0.75))) : int(np.ceil(right + 0.75)),
    ] = False
    return bool(inner.all() and not outer.any())


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@pytest.mark.parametrize("seed", range(20))
def test_boxes_enclose_the_same_pixels_after_a_crop(seed, dtype):
    result = SampleSpecificAugmentation(min_crop=0.5)(sample(LARGE, dtype), rng(seed))
    assert result.image.shape == (HEIGHT, WIDTH, 3) and result.image.dtype == dtype
    assert len(result.boxes) == len(result.labels) > 0
    for box, label in zip(result.boxes, result.labels, strict=True):
        assert encloses_its_color(result.image, box, label, len(LARGE))
    assert (result.boxes >= 0).all()
    assert (result.boxes <= (WIDTH, HEIGHT, WIDTH, HEIGHT)).all()


def test_the_check_by_color_would_find_boxes_that_stay_put():
    moved = 0
    for seed in range(20):
        result = SampleSpecificAugmentation()(sample(LARGE), rng(seed))
        for label in result.labels:
            box = LARGE[label - 1]
            moved += not encloses_its_color(result.image, box, label, len(LARGE))
    assert moved > 40


def test_the_crop_is_the_published_fraction_of_each_side():
    heights, widths = [], []
    for seed in range(1000):
        result = SampleSpecificAugmentation()(sample(LARGE), rng(seed))
        heights.append(HEIGHT / result.scale[0] / HEIGHT)
        widths.append(WIDTH / result.scale[1] / WIDTH)
    for fractions in (heights, widths):
        assert min(fractions) >= 0.8 - 1e-9 and max(fractions) <= 1
        assert min(fractions) < 0.82 and max(fractions) > 0.98
        assert np.mean(fractions) == pytest.approx(0.9, abs=0.008)
    assert abs(np.corrcoef(heights, widths)[0, 1]) < 0.2


def test_a_box_that_is_cut_away_is_removed_with_its_label():
    boxes = [*LARGE[:2], (0, 0, 4, 4)]
    removed = 0
    for seed in range(40):
        result = SampleSpecificAugmentation(min_crop=0.6)(sample(boxes), rng(seed))
        assert len(result.boxes) == len(result.labels)
        assert (result.boxes[:, 2:] > result.boxes[:, :2]).all()
        is_black = not (np.abs(result.image[..., 0] - 0.75) < 0.02).any()
        removed += 3 not in result.labels
        if 3 not in result.labels:
            assert is_black
    assert 10 < removed < 40


def test_a_crop_without_a_box_is_drawn_again_or_the_image_stays():
    boxes = [(0, 0, 2, 90)]
    augment = SampleSpecificAugmentation(min_crop=0.3, small_area=0)
    for seed in range(40):
        assert len(augment(sample(boxes), rng(seed)).boxes) == 1
    once = SampleSpecificAugmentation(min_crop=0.3, small_area=0, max_attempts=1)
    original = sample(boxes)
    results = [once(original, rng(seed)) for seed in range(40)]
    assert sum(result is original for result in results) > 20
    assert all(len(result.boxes) == 1 for result in results)


def noisy_seeds(given, **options):
    augment = SampleSpecificAugmentation(**options)
    results = [augment(given, rng(seed)) for seed in range(400)]
    return [r for r in results if not np.array_equal(r.image, given.image)]


@pytest.mark.parametrize("boxes", [SMALL, []], ids=["small", "none"])
def test_noise_is_added_where_all_boxes_are_small_or_there_is_none(boxes):
    given = sample(boxes)
    noisy = noisy_seeds(given)
    assert len(noisy) / 400 == pytest.approx(0.3, abs=0.06)
    for result in noisy[:5]:
        np.testing.assert_array_equal(result.boxes, given.boxes)
        np.testing.assert_array_equal(result.labels, given.labels)
        assert result.image.dtype == "float32"
        assert result.image.min() >= 0 and result.image.max() <= 1


@pytest.mark.parametrize("dtype, one", [("float32", 1.0), ("uint8", 255)])
def test_the_noise_has_the_published_size(dtype, one):
    gray = np.full((64, 64, 3), one / 2, "float32").astype(dtype)
    given = DetectionSample(gray, np.zeros((0, 4)), np.zeros(0, "int32"))
    augment = SampleSpecificAugmentation(noise_probability=1.0)
    difference = augment(given, rng(0)).image.astype(float) - gray
    assert difference.std() == pytest.approx(0.08 * one, rel=0.03)
    assert abs(difference.mean()) < 0.002 * one


def test_one_box_that_is_not_small_means_a_crop():
    boxes = [*SMALL, LARGE[0]]
    results = [SampleSpecificAugmentation()(sample(boxes), rng(s)) for s in range(20)]
    assert all(result.scale != (1, 1) for result in results)
    assert not noisy_seeds(sample(SMALL), noise_probability=0.0)


def test_small_is_measured_in_original_pixels():
    # 20x20 pixels here are 40x40 of the original image, and 30x35 are 15x17.5.
    one = sample([(5, 5, 25, 25)], scale=(0.5, 0.5))
    other = sample([(5, 5, 35, 40)], scale=(2.0, 2.0))
    augment = SampleSpecificAugmentation(noise_probability=0.0)
    assert augment(one, rng(0)).scale != one.scale
    assert augment(other, rng(0)) is other
    # 32x32 pixels are not below 32².
    limit = sample([(0, 0, 32, 32)])
    assert augment(limit, rng(0)) is not limit


def test_the_scale_of_a_crop_is_that_of_its_pixels():
    given = sample(LARGE, scale=(0.5, 0.25))
    result = SampleSpecificAugmentation()(given, rng(1))
    inside = [i for i, k in enumerate(result.labels) if (result.boxes[i] > 0).all()]
    sides = (result.boxes[:, 2:] - result.boxes[:, :2]) / result.scale[::-1]
    for i in inside:
        box = given.boxes[result.labels[i] - 1]
        if (result.boxes[i] < (WIDTH, HEIGHT, WIDTH, HEIGHT)).all():
            np.testing.assert_allclose(sides[i], (box[2:] - box[:2]) / (0.25, 0.5))


def test_columns_of_an_images_shape_are_cropped_alike_and_get_no_noise():
    image = paint(LARGE)
    columns = {"adversarial": image + 0.25, "score": np.float32(3)}
    result = SampleSpecificAugmentation()(sample(LARGE, columns=columns), rng(3))
    shifted = result.image + 0.25
    np.testing.assert_allclose(result.columns["adversarial"], shifted, atol=1e-5)
    assert result.columns["score"] == 3
    given = sample(SMALL, columns={"adversarial": paint(SMALL)})
    noisy = SampleSpecificAugmentation(noise_probability=1.0)(given, rng(0))
    assert not np.array_equal(noisy.image, given.image)
    np.testing.assert_array_equal(noisy.columns["adversarial"], given.image)


def test_a_column_of_images_of_another_size_is_refused():
    given = sample(LARGE, columns={"large": np.repeat(paint(LARGE), 2, axis=0)})
    with pytest.raises(ValueError, match="the column 'large' .* cropped alike"):
        SampleSpecificAugmentation()(given, rng(0))


def test_the_same_random_numbers_give_the_same_result():
    results = [SampleSpecificAugmentation()(sample(LARGE), rng(5)) for _ in range(2)]
    np.testing.assert_array_equal(results[0].image, results[1].image)
    np.testing.assert_array_equal(results[0].boxes, results[1].boxes)


def test_pixels_out_of_range_are_refused():
    given = sample(SMALL)
    given = DetectionSample(given.image * 255, given.boxes, given.labels)
    with pytest.raises(ValueError, match="pixels between 0 and 255, outside of"):
        SampleSpecificAugmentation(noise_probability=1.0)(given, rng(0))
    # Of every image, not of one that happens to get noise.
    large = sample(LARGE)
    large = DetectionSample(large.image * 255, large.boxes, large.labels)
    with pytest.raises(ValueError, match="outside of"):
        SampleSpecificAugmentation(noise_probability=0.0)(large, rng(0))
    augment = SampleSpecificAugmentation(noise_probability=1, value_range=(0, 255))
    assert augment(given, rng(0)).image.max() > 200


@pytest.mark.parametrize(
    "option",
    [
        {"noise_probability": 1.5},
        {"noise_std": 0},
        {"min_crop": 0},
        {"min_crop": 1.1},
        {"small_area": -1},
        {"value_range": (1, 0)},
        {"max_attempts": 0},
    ],
)
def test_invalid_arguments_are_refused(option):
    (name,) = option
    with pytest.raises(ValueError, match=f"`SampleSpecificAugmentation`: `{name}`"):
        SampleSpecificAugmentation(**option)


def test_resizing_equals_pillows_where_it_enlarges():
    Image = pytest.importorskip("PIL.Image")
    from keras_dtkd.datasets.detection.sample_specific import resize

    image = rng(0).integers(0, 256, (17, 23, 3)).astype("uint8")
    pillow = Image.fromarray(image).resize((30, 21), Image.Resampling.BILINEAR)
    difference = np.abs(resize(image, (21, 30)).astype(int) - np.array(pillow))
    assert difference.max() <= 1
