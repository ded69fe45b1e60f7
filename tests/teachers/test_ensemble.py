"""An ensemble outputs the weighted mean of its members' outputs."""

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller
from keras_dtkd.losses import KD, BinaryKD
from keras_dtkd.teachers import Ensemble, ModelTeacher, Teacher, resolve_teacher
from tests import oracles
from tests.stub_teachers import StubTeacher, draw, ensemble_of, outputs_of
from tests.tiny_models import (
    CLASSES,
    FEATURES,
    close,
    data,
    numbers,
    same,
    student,
    teacher,
)

X, Y = data(16)
A, B, C = (draw(8, 5, seed=seed) for seed in range(3))


# Its outputs.


def test_it_is_a_teacher():
    ensemble = Ensemble([teacher(), student()])
    assert isinstance(ensemble, Teacher) and resolve_teacher(ensemble) is ensemble
    assert all(isinstance(member, ModelTeacher) for member in ensemble.members)
    for ensemble in (
        resolve_teacher([teacher(), student()]),
        resolve_teacher((teacher(),)),
    ):
        assert isinstance(ensemble, Ensemble) and ensemble.average == "logits"


def test_it_is_the_mean_of_logits():
    assert np.allclose(ensemble_of(A, B, C), (A + B + C) / 3, atol=1e-6)
    expected = 0.6 * A + 0.1 * B + 0.3 * C
    assert np.allclose(
        ensemble_of(A, B, C, weights=[0.6, 0.1, 0.3]), expected, atol=1e-6
    )


def test_models_run_in_inference_mode():
    pair = teacher(scale=1.0), student(dropout=0.5)
    mean = sum(model.predict(X, verbose=0) for model in pair) / 2
    assert np.allclose(outputs_of(Ensemble(pair), X), mean, atol=1e-5)


def test_weights_are_divided_by_their_sum():
    assert Ensemble([StubTeacher(A)] * 4).weights == [0.25] * 4
    assert Ensemble([StubTeacher(A), StubTeacher(B)], [7, 3]).weights == pytest.approx(
        [0.7, 0.3]
    )
    assert np.array_equal(
        ensemble_of(A, B, weights=[7, 3]), ensemble_of(A, B, weights=(0.7, 0.3))
    )


def test_in_probabilities_it_is_the_logarithm_of_their_mean():
    p = 0.75 * oracles.softmax(A) + 0.25 * oracles.softmax(B)
    found = ensemble_of(A, B, weights=[3, 1], average="probs")
    assert np.allclose(found, np.log(p), atol=1e-5)


@pytest.mark.invariant(number=6)
@pytest.mark.parametrize("average", ["logits", "probs"])
def test_extreme_logits_give_finite_ones(average):
    a, b = 1e4 * np.eye(5), -1e4 * np.eye(5)
    a[4], b[4] = -np.inf, -np.inf
    a[4, 0] = b[4, 0] = 0.0
    found = ensemble_of(a, b, average=average)
    assert np.isfinite(found).all()
    if average == "probs":
        with np.errstate(all="ignore"):
            parts = [oracles.log_softmax(z) + np.log(0.5) for z in (a, b)]
            expected = np.logaddexp(*parts)
        assert np.allclose(np.maximum(found, -1e8), np.maximum(expected, -1e8))


def test_half_precision_is_averaged_in_float32():
    a, b = (draw(8, 5, seed=seed).astype("float16") for seed in range(2))
    found = outputs_of(Ensemble([StubTeacher(a), StubTeacher(b)]), X)
    assert found.dtype == "float32"
    assert np.allclose(found, (a.astype("float32") + b) / 2, atol=1e-6)


def test_ensembles_may_be_members():
    inner = Ensemble(
        [StubTeacher(B.astype("float32")), StubTeacher(C.astype("float32"))]
    )
    ensemble = Ensemble([StubTeacher(A.astype("float32")), inner])
    assert np.allclose(outputs_of(ensemble, X), A / 2 + B / 4 + C / 4, atol=1e-6)


def test_a_member_of_weight_zero_does_not_run():
    class Broken(StubTeacher):
        def outputs(self, x, sample_ids=None):
            raise RuntimeError

    ensemble = Ensemble([Broken(0), StubTeacher(A.astype("float32"))], [0, 2])
    assert np.allclose(outputs_of(ensemble, X), A, atol=1e-6)


def test_members_get_the_sample_ids():
    class Stored(StubTeacher):
        def outputs(self, x, sample_ids=None):
            values = keras.ops.convert_to_tensor(self.values)
            return values[sample_ids[0] : sample_ids[-1] + 1]

    stored = [Stored(z.astype("float32")) for z in (A, B)]
    found = Ensemble(stored).outputs(None, sample_ids=[2, 3])
    found = keras.ops.convert_to_numpy(found)
    assert np.allclose(found, (A + B)[2:4] / 2, atol=1e-6)


# What is refused.

WRONG = {
    "no member": (lambda: Ensemble([]), "`models` is empty"),
    "too few weights": (
        lambda: Ensemble([StubTeacher(A)] * 3, [1, 2]),
        r"`weights` must be 3 numbers.*weights=\[1, 2\]",
    ),
    "a negative weight": (
        lambda: Ensemble([StubTeacher(A)] * 2, [2, -1]),
        r"\[2, -1\]",
    ),
    "no weight": (lambda: Ensemble([StubTeacher(A)] * 2, [0, 0]), r"\[0, 0\]"),
    "an infinite weight": (lambda: Ensemble([StubTeacher(A)], [np.inf]), "weights="),
    "a weight that is none": (lambda: Ensemble([StubTeacher(A)], [np.nan]), "weights="),
    "weights as text": (
        lambda: Ensemble([StubTeacher(A)], "equal"),
        "weights='equal'",
    ),
    "an unknown average": (
        lambda: Ensemble([StubTeacher(A)], average="logit"),
        "average='logit'",
    ),
    "other classes": (
        lambda: ensemble_of(A, B[:, :4]),
        r"\(8, 5\) and \(8, 4\).*same classes",
    ),
    "another rank": (lambda: ensemble_of(A, B[:, None]), r"\(8, 5\) and \(8, 1, 5\)"),
    "other outputs": (
        lambda: ensemble_of(A, StubTeacher({"label": B, "size": B})),
        "nested in different ways",
    ),
}


@pytest.mark.invariant(number=10)
@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_argument_is_named_with_its_value(case):
    make, message = WRONG[case]
    with pytest.raises(ValueError, match="(?s)`Ensemble`.*" + message):
        make()


@pytest.mark.invariant(number=10)
def test_a_member_that_cannot_teach_is_refused():
    with pytest.raises(TypeError, match="`teacher` must be.*str"):
        Ensemble([teacher(), "resnet"])
    with pytest.raises(TypeError, match="`models` must be a list.*Sequential"):
        Ensemble(teacher())


@pytest.mark.invariant(number=10)
def test_members_of_different_classes_are_refused_before_the_first_step():
    small = student()
    before = numbers(small)
    d = Distiller([teacher(), teacher(classes=3)], small, KD())
    with pytest.raises(ValueError, match=r"`Ensemble`.*\(16, 4\) and \(16, 3\)"):
        d.fit(X, Y, verbose=0)
    assert same(before, numbers(small))


@pytest.mark.invariant(number=10)
def test_the_student_is_found_among_the_members():
    small = student()
    for given in ([teacher(), small], Ensemble([teacher(), Ensemble([small])])):
        with pytest.raises(ValueError, match="the teacher is the student"):
            Distiller(given, small)
    wrapped = keras.Sequential([keras.Input((FEATURES,)), small.layers[0]])
    with pytest.raises(ValueError, match="share variables"):
        Distiller([teacher(), wrapped], small)


@pytest.mark.invariant(number=10)
def test_no_member_may_have_weights_that_are_no_numbers():
    broken = teacher()
    broken.set_weights([np.nan * w for w in broken.get_weights()])
    with pytest.raises(ValueError, match="teacher's weights hold NaN"):
        Distiller([teacher(), broken], student(), KD()).fit(X, Y, verbose=0)


# In a Distiller.


def linear(seed):
    return keras.Sequential(
        [
            keras.Input((FEATURES,)),
            keras.layers.Dense(
                CLASSES, kernel_initializer=keras.initializers.GlorotUniform(seed)
            ),
        ]
    )


def test_a_list_trains_as_the_one_model_that_is_its_mean():
    pair = [linear(1), linear(2)]
    mean = linear(3)
    both = zip(*(model.get_weights() for model in pair), strict=True)
    mean.set_weights([(a + b) / 2 for a, b in both])
    runs = []
    for given in (mean, pair, Ensemble(pair)):
        small = student()
        d = Distiller(given, small, KD(), evaluate_distillation=True)
        d.fit(X, Y, batch_size=8, shuffle=False, validation_data=(X, Y), verbose=0)
        runs.append(small)
        expected = given if given is not pair else None
        assert d.teacher is expected or isinstance(d.teacher, Ensemble)
    assert close(*runs[:2], 1e-5) and same(*runs[1:])


def test_members_that_are_not_built_are_built_from_the_data():
    late = keras.Sequential([keras.layers.Dense(CLASSES)])
    Distiller([teacher(), late], student(), KD()).fit(X, Y, verbose=0)
    assert late.built


# What it is made of.


def test_one_distiller_changes_nothing_for_another():
    ensemble = Ensemble([teacher(), teacher(scale=1.0)], average="probs")
    first = Distiller(ensemble, student(), KD())
    before = float(first.compute_losses(X)["kd"])
    Distiller(ensemble, student(), BinaryKD()).compute_losses(X)
    assert first.teacher is ensemble
    assert float(first.compute_losses(X)["kd"]) == before


def test_its_variables_are_all_members_each_once():
    a, b = teacher(), student()
    found = Ensemble([a, b, Ensemble([a])]).variables
    expected = [*a.variables, *b.variables]
    assert list(map(id, found)) == list(map(id, expected))


def test_whatever_changes_its_outputs_changes_its_fingerprint():
    a, b = teacher(), student()
    makes = {
        "equal": lambda: Ensemble([a, b]),
        "members": lambda: Ensemble([a, a]),
        "more": lambda: Ensemble([a, b, b]),
        "order": lambda: Ensemble([b, a]),
        "weights": lambda: Ensemble([a, b], [1, 2]),
        "average": lambda: Ensemble([a, b], average="probs"),
    }
    prints = {name: make().fingerprint() for name, make in makes.items()}
    assert len(set(prints.values())) == len(makes)
    assert all(len(p) == 32 for p in prints.values())
    assert Ensemble([a, b], [2, 2]).fingerprint() == prints["equal"]
    b.layers[-1].bias.assign_add(np.ones(CLASSES))
    assert makes["equal"]().fingerprint() != prints["equal"]
