"""Swing equals its formula, hides what it is to hide, and what it cannot hide."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_dtkd
from keras_dtkd import Distiller, Step
from keras_dtkd.datasets import with_columns
from keras_dtkd.losses import KD, Swing
from tests import oracles, tiny_models
from tests.gradients import gradient, value_and_grad
from tests.logit_cases import CASES, assert_close, assert_equals_oracle, draw
from tests.tensors import numpy, tensor

CASE = draw((2, 4, 10))
RNG = np.random.default_rng(0)
SCORES = np.round(RNG.uniform(size=(2, 4)), 2)
SCORES[0, 0], SCORES[1, 1] = 0.0, 1.0


def swing(**options):
    return Swing(**{"privacy": "privacy", "noise": 0.0, "seed": 1, **options})


def compute(loss, student, teacher, scores=SCORES, training=True):
    columns = {"privacy": tensor(scores)}
    step = Step(
        columns=columns,
        student_logits=student,
        teacher_logits=teacher,
        training=training,
    )
    return loss.compute(step)


def oracle(student, teacher, options):
    low, high = options.get("minimum", 1.0), options["maximum"]
    t = (low + (high - low) * SCORES ** options.get("gamma", 1.0))[..., None]
    own = options.get("student_temperature", 1.0)
    divergence = oracles.kl(teacher / t, student / (t if own == "shared" else own))
    return (t[..., 0] ** 2 if options.get("scale_by_t2") else 1.0) * divergence


@pytest.mark.invariant(number=5)
@pytest.mark.parametrize(
    "options",
    [
        {"maximum": 8.0},
        {"maximum": 50.0, "gamma": 0.5},
        {"maximum": 8.0, "minimum": 0.5, "student_temperature": 2.0},
        {"maximum": 8.0, "student_temperature": "shared", "scale_by_t2": True},
    ],
)
def test_equals_the_formula(options):
    loss = swing(**options)
    assert_equals_oracle(
        lambda student, teacher: compute(loss, student, teacher),
        lambda student, teacher: oracle(student, teacher, options),
        CASE,
        scale=np.maximum(1.0, options["maximum"]),
    )


@pytest.mark.invariant(number=5)
def test_without_scores_it_is_kd_at_the_lowest_temperature():
    loss = swing(minimum=3.0, student_temperature="shared", scale_by_t2=True)
    values = compute(loss, *map(tensor, CASE[:2]), np.zeros((2, 4)))
    assert_close(numpy(values), numpy(KD(3.0)(*map(tensor, CASE[:2]))), 1e-5, 9.0)


def slope_at(loss, student):
    _, slope = value_and_grad(lambda z: compute(loss, z, tensor(CASE.teacher)), student)
    return np.abs(slope).max()


def test_a_shared_temperature_hides_nothing_at_the_optimum():
    """Whatever T: the student that has the teacher's logits is the best."""
    shift = RNG.normal(size=(2, 4, 1))
    for options in ({}, {"scale_by_t2": True}):
        loss = swing(maximum=50.0, student_temperature="shared", **options)
        assert slope_at(loss, CASE.teacher + shift) < 1e-5
        assert slope_at(loss, CASE.teacher / 8.0) > 1e-3


def test_a_students_own_temperature_gives_the_softened_distribution():
    loss, t = swing(maximum=50.0), 1.0 + 49.0 * SCORES[..., None]
    shift = RNG.normal(size=(2, 4, 1))
    assert slope_at(loss, CASE.teacher / t + shift) < 1e-5
    assert slope_at(loss, CASE.teacher) > 0.1


def test_a_temperature_keeps_the_order_of_the_classes():
    """A student that fits the softest target has the secret first still."""
    for t in (1.0, 50.0, 1e3):
        assert np.array_equal(
            np.argsort(oracles.softmax(CASE.teacher / t)), np.argsort(CASE.teacher)
        )


def test_noise_is_fresh_in_each_step_and_a_seed_repeats_it():
    first, second, other = (swing(noise=2.0, seed=seed) for seed in (1, 1, 2))
    sides = [tensor(z) for z in CASE[:2]]
    steps = [numpy(compute(first, *sides)) for _ in range(3)]
    assert not np.allclose(steps[0], steps[1]) and not np.allclose(steps[1], steps[2])
    for step in steps:
        assert np.array_equal(numpy(compute(second, *sides)), step)
    assert not np.allclose(numpy(compute(other, *sides)), steps[0])


def test_noise_is_gaussian_with_its_standard_deviation():
    loss, size = swing(noise=2.0, maximum=1.0), (64, 64, 10)
    zeros = tensor(np.zeros(size))

    def target(student):
        return compute(loss, student, zeros, np.zeros(size[:2]))

    # At equal student logits the gradient is `1/classes − target`.
    target = 0.1 - gradient(target, np.zeros(size))
    log_ratio = np.log(target[..., 0] / target[..., 1])
    assert log_ratio.std() == pytest.approx(2.0 * np.sqrt(2), rel=0.05)
    assert abs(log_ratio.mean()) < 0.2


def test_there_is_no_noise_without_training():
    noisy, sides = swing(noise=2.0), [tensor(z) for z in CASE[:2]]
    values = numpy(compute(noisy, *sides, training=False))
    assert np.array_equal(values, numpy(compute(swing(), *sides)))


@pytest.mark.invariant(number=6)
@pytest.mark.parametrize("case", ["up to 1e4", "equal logits", "float16"])
def test_all_is_finite_at_low_and_high_temperatures(case):
    case = CASES[case]
    scores = np.linspace(0, 1, len(case.student))
    loss = swing(minimum=0.01, maximum=1e4, noise=1.0)
    values, slope = value_and_grad(
        lambda z: compute(loss, z, tensor(case.teacher, case.dtype), scores),
        case.student,
        dtype=case.dtype,
    )
    assert np.isfinite(values).all() and np.isfinite(slope).all()


def test_no_gradient_reaches_scores_and_teacher():
    loss = swing(scale_by_t2=True, student_temperature="shared", noise=1.0)
    student = tensor(CASE.student)

    def by_teacher(teacher):
        return compute(loss, student, teacher)

    def by_scores(scores):
        columns = {"privacy": scores}
        step = Step(
            columns=columns, student_logits=student, teacher_logits=tensor(CASE.teacher)
        )
        return loss.compute(step)

    assert (gradient(by_teacher, CASE.teacher) == 0).all()
    assert (gradient(by_scores, SCORES) == 0).all()


# Training on sequences: tokens 1 to 8, three classes, 0 is padding.
TOKENS = RNG.integers(1, 9, (16, 5))
TOKENS[:4, 3:] = 0
LABELS = RNG.integers(0, 3, (16, 5))
PRIVATE = (TOKENS > 6).astype("float32")
OPTIONS = {"batch_size": 16, "shuffle": False, "verbose": 0}
pytestmark = pytest.mark.filterwarnings("ignore:.*no better than chance")


@keras.saving.register_keras_serializable("tests")
def is_private(x):
    return ops.cast(ops.convert_to_tensor(x) > 6, "float32")


def distiller(loss, rate=0.1, **options):
    models = tiny_models.sequence(5), tiny_models.sequence(1)
    d = Distiller(*models, loss, **options)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    d.compile(keras.optimizers.SGD(rate), loss, metrics=["accuracy"])
    return d


def fit(d, x, labels=LABELS, **options):
    return d.fit(x, labels, **{**OPTIONS, **options}).history


@pytest.mark.graph
def test_a_column_a_function_and_an_input_are_the_same_scores():
    both = {"tokens": TOKENS, "privacy": PRIVATE}
    weights = []
    for loss, x in (
        (Swing("privacy", seed=1), with_columns(TOKENS, privacy=PRIVATE)),
        (Swing(is_private, seed=1), TOKENS),
    ):
        d = distiller(loss)
        fit(d, x, epochs=2)
        weights.append(tiny_models.numbers(d.student))
    assert tiny_models.same(*weights)
    loss = Swing("privacy")
    assert np.array_equal(numpy(loss.scores(both)), PRIVATE)


@pytest.mark.graph
@pytest.mark.invariant(number=3)
@pytest.mark.parametrize("weights", [None, "samples", "tokens"])
def test_labels_of_private_tokens_teach_nothing(weights):
    """As the sample weights `1 − score` do, times those of the data, with a mask."""
    given = {
        None: None,
        "samples": np.arange(16.0) % 3,
        "tokens": RNG.uniform(size=(16, 5)),
    }[weights]
    x, public = with_columns(TOKENS, privacy=PRIVATE), 1 - PRIVATE
    masked = distiller(swing(weight=0.0))
    logs = fit(masked, x, sample_weight=given)
    expected = distiller(KD(weight=0.0))
    by_hand = public if given is None else public * given.reshape(16, -1)
    expected_logs = fit(expected, TOKENS, sample_weight=by_hand)
    assert logs["task_loss"] == pytest.approx(expected_logs["task_loss"], rel=1e-5)
    assert tiny_models.close(masked.student, expected.student, 1e-5)
    other = np.where(PRIVATE > 0, 2 - LABELS, LABELS)
    again = distiller(swing(weight=0.0))
    fit(again, x, other, sample_weight=given)
    assert tiny_models.same(again.student, masked.student)


@pytest.mark.graph
@pytest.mark.invariant(number=3)
def test_positions_that_are_masked_or_of_weight_zero_count_nowhere():
    weights = np.ones((16, 5))
    weights[8:] = 0
    x = with_columns(TOKENS, privacy=PRIVATE)
    one = distiller(swing(scale_by_t2=True))
    fit(one, x, sample_weight=weights)
    changed = np.where(weights * TOKENS > 0, PRIVATE, 1 - PRIVATE)
    other = distiller(swing(scale_by_t2=True))
    fit(other, with_columns(TOKENS, privacy=changed), sample_weight=weights)
    assert tiny_models.same(one.student, other.student)


def test_evaluate_knows_nothing_of_scores():
    x = with_columns(TOKENS, privacy=PRIVATE)
    d = distiller(swing(), evaluate_distillation=True)
    logs = fit(d, x, validation_data=(x, LABELS))
    d.student.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    own = d.student.evaluate(TOKENS, LABELS, verbose=0)
    assert logs["val_task_loss"][0] == pytest.approx(own, rel=1e-5)
    d.evaluate_distillation = False
    assert d.evaluate(TOKENS, LABELS, verbose=0)[0] == pytest.approx(own, rel=1e-5)


def test_a_one_hot_label_and_scores_of_samples_are_weighted_too():
    x, y = tiny_models.data(16)
    scores = (np.arange(16) % 2).astype("float32")
    weights = []
    for labels, name in (
        (y, "sparse_categorical"),
        (tiny_models.one_hot(y), "categorical"),
    ):
        d = Distiller(tiny_models.teacher(), tiny_models.student(), swing())
        loss = keras.losses.get(f"{name}_crossentropy")
        d.compile("sgd", lambda y, z, loss=loss: loss(y, z, from_logits=True))
        fit(d, with_columns(x, privacy=scores), labels)
        weights.append(tiny_models.numbers(d.student))
    assert tiny_models.close(*weights, 1e-5)


@pytest.mark.graph
@pytest.mark.invariant(number=8)
def test_a_loaded_run_continues_with_the_next_noise_bit_for_bit(tmp_path):
    d = distiller(Swing(is_private, noise=1.0, seed=3))
    first = fit(d, TOKENS)["swing"]
    d.save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras")
    loaded.teacher = d.teacher
    assert loaded.distillation_losses["swing"].privacy is is_private
    logs = [fit(model, TOKENS)["swing"] for model in (d, loaded)]
    assert logs[0] == logs[1] != first
    assert tiny_models.same(d, loaded)


def test_noise_differs_between_two_epochs_that_change_no_weight():
    d = distiller(Swing(is_private, noise=1.0, seed=3), rate=0.0)
    values = fit(d, TOKENS, epochs=3)["swing"]
    assert len(set(values)) == 3


def test_losses_of_a_batch_are_computed_outside_of_fit():
    d = distiller(Swing("privacy", noise=1.0))
    x = with_columns(TOKENS, privacy=PRIVATE)
    values = [float(numpy(d.compute_losses(x, LABELS)["swing"])) for _ in range(2)]
    assert values[0] == values[1] > 0


@pytest.mark.invariant(number=7)
@pytest.mark.graph
def test_a_schedule_reaches_noise_and_temperatures():
    d = distiller(swing(maximum=3.0))
    for name, value in (("noise", 0.5), ("privacy_temperature.maximum", 5.0)):
        schedule = keras_dtkd.callbacks.HyperparameterSchedule(
            f"swing.{name}", lambda epoch, value=value: value
        )
        x = with_columns(TOKENS, privacy=PRIVATE)
        logs = fit(d, x, callbacks=[schedule])
    kept = PRIVATE[TOKENS > 0].mean()
    assert logs["teacher_temperature"] == [pytest.approx(1 + 4 * kept, rel=1e-5)]
    assert d.distillation_losses["swing"].noise == 0.5


@pytest.mark.invariant(number=10)
@pytest.mark.single_backend
@pytest.mark.parametrize(
    "x, message",
    [
        (TOKENS, r"no column 'privacy'. Found: none.*with_columns\(x, privacy=scores"),
        (with_columns(TOKENS, other=PRIVATE), "no column 'privacy'. Found: other"),
        (with_columns(TOKENS, privacy=2 * PRIVATE), r"in \[0, 1\]. Found: 0 to 2"),
        (with_columns(TOKENS, privacy=-PRIVATE), r"in \[0, 1\]. Found: -1 to -?0"),
        (with_columns(TOKENS, privacy=np.nan * PRIVATE), r"\[0, 1\]. Found: nan"),
        (with_columns(TOKENS, privacy=PRIVATE[:, 0]), r"of shape \(16,\) do not fit"),
        (with_columns(TOKENS, privacy=PRIVATE[:, 1:]), r"\(16, 4\) do not fit"),
    ],
)
def test_wrong_scores_are_one_error_before_the_first_step(x, message):
    with pytest.raises(ValueError, match=f"`Swing`: .*{message}"):
        fit(distiller(Swing("privacy")), x)


@pytest.mark.invariant(number=10)
@pytest.mark.single_backend
@pytest.mark.parametrize("length", [1, 4])
def test_scores_of_other_tokens_are_refused_without_labels(length):
    x = with_columns(TOKENS, privacy=PRIVATE[:, :length])
    d = distiller(Swing("privacy"))
    with pytest.raises(ValueError, match=rf"\(16, {length}\) do not fit"):
        d.fit(x, verbose=0)


@pytest.mark.invariant(number=10)
@pytest.mark.single_backend
def test_a_function_that_fails_is_one_error_before_the_first_step():
    def fail(x):
        raise KeyError("ages")

    with pytest.raises(ValueError, match="function `privacy` failed on a batch: .ages"):
        fit(distiller(Swing(fail)), TOKENS)


@pytest.mark.invariant(number=10)
@pytest.mark.single_backend
def test_a_model_as_scores_and_labels_of_several_outputs_are_refused():
    with pytest.raises(ValueError, match="scores of a model beforehand"):
        Swing(tiny_models.sequence())
    models = [tiny_models.two_outputs("dict", seed) for seed in (1, 5)]
    d = Distiller(*models, swing(output="label"))
    x, y = tiny_models.data(16)
    d.compile("sgd", {"label": "sparse_categorical_crossentropy", "size": "mse"})
    with pytest.raises(ValueError, match="labels of several outputs"):
        fit(d, with_columns(x, privacy=PRIVATE[:, 0]), {"label": y, "size": y * 1.0})
