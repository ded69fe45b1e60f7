"""Points are the temperatures of the samples, ordered by difficulty."""

import numpy as np
import pytest
from keras import ops

from keras_dtkd import plots
from keras_dtkd.losses import DTKD
from keras_dtkd.temperatures import Curriculum, Dynamic
from tests import oracles

matplotlib = pytest.importorskip("matplotlib")
RNG = np.random.default_rng(0)
TEACHER = (RNG.normal(size=(40, 5)) * RNG.uniform(1, 5, (40, 1))).astype("float32")
STUDENT = RNG.normal(size=(40, 5)).astype("float32")
# `rule="centered"`: temperatures proportional to each model's largest centered logit.
TOP_T, TOP_S = (oracles.centered(z).max(-1) for z in (TEACHER, STUDENT))
T_TEACHER = np.clip(8 * TOP_T / (TOP_T + TOP_S), 0.1, 7.9)
P = oracles.softmax(TEACHER / 4.0)
ENTROPY = -(P * np.log(P)).sum(-1)


def draw(**options):
    return plots.temperatures(Dynamic(rule="centered"), STUDENT, TEACHER, **options)


def points(figure):
    """The student's points and crosses, then the teacher's."""
    kind = matplotlib.collections.PathCollection
    collections = (c for c in figure.axes[0].collections if isinstance(c, kind))
    return [np.asarray(c.get_offsets()) for c in collections]


def line(figure, name):
    (match,) = (x for x in figure.axes[0].lines if x.get_label() == name)
    return match.get_xydata()


def test_points_are_samples_by_rank_of_the_teachers_entropy():
    student, no_crosses, teacher, _ = points(draw())
    rank = ENTROPY.argsort().argsort()
    np.testing.assert_allclose(teacher[:, 0], 100 * (rank + 0.5) / 40)
    np.testing.assert_allclose(teacher[:, 1], T_TEACHER, rtol=1e-5)
    np.testing.assert_allclose(student[:, 1], 8 - T_TEACHER, rtol=1e-4)
    assert len(no_crosses) == 0


def test_lines_are_medians_and_bands_quartiles_of_equal_bins():
    figure = draw(bins=4)
    bins = T_TEACHER[ENTROPY.argsort()].reshape(4, 10)
    medians = line(figure, "teacher's")
    np.testing.assert_allclose(medians[:, 0], [12.5, 37.5, 62.5, 87.5])
    np.testing.assert_allclose(medians[:, 1], np.median(bins, 1), rtol=1e-5)
    kind = matplotlib.collections.PathCollection
    bands = [c for c in figure.axes[0].collections if not isinstance(c, kind)]
    corners = bands[1].get_paths()[0].vertices
    for x, values in zip(medians[:, 0], bins, strict=True):
        at = corners[np.isclose(corners[:, 0], x), 1]
        low, high = np.quantile(values, (0.25, 0.75))
        assert (at.min(), at.max()) == pytest.approx((low, high), rel=1e-5)


def test_the_x_axis_may_be_the_entropy_itself():
    figure = draw(by="value")
    np.testing.assert_allclose(points(figure)[0][:, 0], ENTROPY, rtol=1e-4)
    assert figure.axes[0].get_xlabel() == "Teacher's entropy (at temperature 4, nats)"


def test_another_difficulty_may_be_passed():
    given = RNG.normal(size=40)
    np.testing.assert_allclose(
        points(draw(difficulty=given, by="value"))[0][:, 0], given
    )


@pytest.mark.parametrize("form", ["integers", "column", "one-hot"])
def test_samples_that_the_teacher_misclassifies_are_crosses(form):
    y = TEACHER.argmax(-1)
    y[:3] = (y[:3] + 1) % 5
    y[3] = -1
    one_hot = (y[:, None] == np.arange(5)).astype("float32")
    labels = {"integers": y, "column": y[:, None], "one-hot": one_hot}[form]
    figure = draw(labels=labels)
    right, wrong, *_ = points(figure)
    assert (len(right), len(wrong)) == (37, 3)
    np.testing.assert_allclose(wrong[:, 1], 8 - T_TEACHER[:3], rtol=1e-4)
    assert "crosses: teacher is wrong" in figure.axes[0].get_title()


def test_a_number_is_a_single_line_on_a_scale_from_zero():
    figure = plots.temperatures(3.0, STUDENT, TEACHER)
    assert (line(figure, "both models'")[:, 1] == 3).all()
    assert figure.axes[0].get_ylim() == (0, 6)
    texts = {text.get_text() for text in figure.axes[0].get_legend().get_texts()}
    assert texts == {"both models'", "mean 3"}


def test_the_temperature_of_a_loss_is_unchanged():
    temperature = DTKD().temperature
    plots.temperatures(temperature, STUDENT, TEACHER)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_tensors_and_sequences_are_accepted(dtype):
    tensors = [
        ops.cast(ops.convert_to_tensor(z.reshape(8, 5, 5)), dtype)
        for z in (STUDENT, TEACHER)
    ]
    student, _, teacher, _ = points(plots.temperatures(Dynamic(rule="std"), *tensors))
    assert student.shape == teacher.shape == (40, 2)


def test_a_learned_temperature_is_drawn():
    figure = plots.temperatures(Curriculum(), STUDENT, TEACHER)
    assert np.isfinite(line(figure, "both models'")).all()


@pytest.mark.parametrize("count", [1, 3])
def test_fewer_samples_than_bins_are_drawn(count):
    figure = plots.temperatures(Dynamic(), STUDENT[:count], TEACHER[:count])
    assert len(line(figure, "teacher's")) == count


@pytest.mark.invariant(number=10)
@pytest.mark.parametrize(
    "options, message",
    [
        ({"by": "size"}, "`by` must be one of 'rank', 'value'.*'size'"),
        ({"bins": 0}, "`bins` must be an integer of at least 1.*bins=0"),
        ({"difficulty": np.ones(39)}, "each of the 40 samples.*39 numbers"),
        ({"difficulty": np.full(40, np.nan)}, "0 of them finite"),
        ({"labels": np.zeros(39)}, r"labels of shape \(39,\) do not fit"),
    ],
)
def test_invalid_arguments_raise(options, message):
    with pytest.raises(ValueError, match=f"plots.temperatures.*{message}"):
        draw(**options)


@pytest.mark.invariant(number=10)
@pytest.mark.parametrize(
    "student, teacher, message",
    [
        (STUDENT[:3], TEACHER, r"have the shape \(3, 5\) and .* \(40, 5\)"),
        (STUDENT[0], TEACHER[0], r"at least one sample.*shape \(5,\)"),
        (STUDENT[:0], TEACHER[:0], r"at least one sample.*shape \(0, 5\)"),
        (STUDENT, np.full_like(TEACHER, np.nan), "teacher_logits contain NaN"),
        (STUDENT, P, "teacher_logits look like probabilities"),
    ],
)
def test_invalid_logits_raise(student, teacher, message):
    with pytest.raises(ValueError, match=message):
        plots.temperatures(4.0, student, teacher)


def test_the_students_dashed_line_is_on_top():
    lines = {x.get_label(): x for x in draw().axes[0].lines}
    student, teacher = lines["student's"], lines["teacher's"]
    assert student.get_linestyle() == "--" and teacher.get_linestyle() == "-"
    assert student.get_zorder() > teacher.get_zorder()
