"""Wrong arguments and wrong exams are errors before the first step."""

import warnings

import keras
import numpy as np
import pytest

from keras_dtkd import InteractiveDistiller
from keras_dtkd.losses import KD
from tests.tiny_models import data, numbers, one_hot, same, student, teacher

X, Y = data(24)
EXAM = data(10, seed=1)
CE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.mark.single_backend
def test_another_teacher_is_refused():
    distiller = InteractiveDistiller(teacher(), student())
    distiller.teacher = distiller.teacher
    with pytest.raises(ValueError, match="Make another `InteractiveDistiller`"):
        distiller.teacher = teacher()


@pytest.mark.single_backend
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0}, "temperature=0"),
        (
            {"lookahead_learning_rate": -1.0},
            "`lookahead_learning_rate` must be a finite number above 0",
        ),
        ({"alpha": 0.0}, r"`alpha`.*\(0, 1\]"),
        ({"alpha": None}, "`alpha` must be a finite number"),
        ({"alpha": "0.5"}, "`alpha` must be a finite number"),
        ({"alpha": [0.5]}, "`alpha` must be a finite number"),
        ({"alpha": True}, "`alpha` must be a finite number"),
        ({"estimator": "guess"}, "estimator='guess'"),
        ({"exam_for": "nobody"}, "exam_for='nobody'"),
    ],
)
def test_a_wrong_argument_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        InteractiveDistiller(teacher(), student(), **options)


@pytest.mark.single_backend
def test_an_invalid_exam_is_refused_before_the_first_step():
    large, small = teacher(), student()
    before = numbers(small)
    distiller = InteractiveDistiller(large, small, exam_batch_size=11)
    with pytest.raises(ValueError, match="there is no exam"):
        distiller.fit(X, Y, verbose=0)
    with pytest.raises(ValueError, match="from 1 to the exam's 10"):
        distiller.fit(X, Y, exam=EXAM, verbose=0)
    distiller = InteractiveDistiller(large, small)
    with pytest.raises(ValueError, match="needs labels"):
        distiller.fit(X, Y, exam=(X, None), verbose=0)
    with pytest.raises(
        ValueError, match="`InteractiveDistiller`: 24 exam inputs and 10 exam labels"
    ):
        distiller.fit(X, Y, exam=(X, EXAM[1]), verbose=0)
    with pytest.raises(
        ValueError, match="`InteractiveDistiller`: the exam data holds no samples"
    ):
        distiller.fit(X, Y, exam=(X[:0], Y[:0]), verbose=0)
    for labels in (Y, None):
        with pytest.raises(ValueError, match="labels of the exam from 7 to 10"):
            distiller.fit(X, labels, exam=(EXAM[0], EXAM[1] + 7), verbose=0)
    for exam in (EXAM[0], (*EXAM, EXAM[1]), ()):
        with pytest.raises(ValueError, match=r"no pair .* Give `exam=\(x, y\)`"):
            distiller.fit(X, Y, exam=exam, verbose=0)
    with pytest.raises(ValueError, match="`InteractiveDistiller`: the exam labels are"):
        distiller.fit(X, Y, exam=(EXAM[0], EXAM[1].tolist()), verbose=0)
    with pytest.raises(ValueError, match="has not trained"):
        distiller.restore_teacher()
    assert same(numbers(small), before)


@pytest.mark.single_backend
@pytest.mark.parametrize(
    ("exam", "message"),
    [
        ((EXAM[0] * np.nan, EXAM[1]), "10 of 10 inputs of the exam hold NaN"),
        ((EXAM[0].reshape(-1, 2, 3), EXAM[1]), r"the exam: samples of shape \(2, 3\)"),
        ((EXAM[0], EXAM[1].astype(str)), "labels of the exam such as '.' are no"),
        ((EXAM[0], np.full(10, np.nan)), "labels of the exam hold NaN"),
        ((EXAM[0].tolist(), EXAM[1]), "the exam inputs are a list of single"),
    ],
    ids=["nan", "shape", "text", "nan labels", "lists"],
)
def test_an_exam_that_would_ruin_the_teacher_is_refused(exam, message):
    large, small = teacher(), student()
    before = [*numbers(large), *numbers(small)]
    with pytest.raises(ValueError, match=message):
        InteractiveDistiller(large, small).fit(X, Y, exam=exam, verbose=0)
    assert same(before, [*numbers(large), *numbers(small)])


@pytest.mark.single_backend
def test_an_exam_on_another_scale_is_a_warning():
    distiller = InteractiveDistiller(teacher(), student())
    with (
        pytest.warns(UserWarning, match="the inputs of the exam have a mean size of"),
        pytest.raises(ValueError, match="labels of the exam"),
    ):
        distiller.fit(X, Y, exam=(EXAM[0] * 255, EXAM[1] + 7), verbose=0)


@pytest.mark.single_backend
@pytest.mark.parametrize(
    ("loss", "is_plain"),
    [
        (CE, True),
        ("sparse_categorical_crossentropy", True),
        ("CategoricalCrossentropy", True),
        ("categorical_focal_crossentropy", False),
        (keras.losses.CategoricalCrossentropy(from_logits=True), True),
        (keras.losses.CategoricalCrossentropy(True, label_smoothing=0.1), False),
        (keras.losses.CategoricalFocalCrossentropy(from_logits=True), False),
        ("mse", False),
    ],
)
def test_a_loss_that_the_look_ahead_does_not_take_is_a_warning(loss, is_plain):
    name = getattr(loss, "name", loss)
    y = Y if name.startswith("sparse") else one_hot(Y)

    def find_warnings(exam_for):
        distiller = InteractiveDistiller(teacher(), student(), exam_for=exam_for)
        distiller.compile("adam", loss)
        distiller.set_exam(*EXAM)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            distiller.train_on_batch(X, y)
        return [str(w.message) for w in caught if "the look-ahead" in str(w.message)]

    found = find_warnings("feedback")
    assert found == [] if is_plain else len(found) == 1 and repr(name) in found[0]
    assert find_warnings("teacher") == []


@pytest.mark.single_backend
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("temperature", 4.0), ("alpha", 0.1), ("lookahead_learning_rate", 1.0)),
        *(("estimator", "jvp"), ("exam_for", "student"), ("exam_batch_size", 4)),
    ],
)
def test_what_a_step_is_made_of_cannot_be_changed(name, value):
    distiller = InteractiveDistiller(teacher(), student())
    setattr(distiller, name, getattr(distiller, name))
    with pytest.raises(ValueError, match=f"its `{name}` cannot be changed"):
        setattr(distiller, name, value)
    assert distiller.get_config()[name] != value


@pytest.mark.single_backend
def test_a_misplaced_argument_is_an_error_that_names_its_place():
    models = teacher(), student()
    for options in ({"distillation_losses": KD()}, {"task_weight": 0.5}):
        with pytest.raises(
            TypeError, match="loss is fixed.*`temperature=` and `alpha="
        ):
            InteractiveDistiller(*models, **options)
    with pytest.raises(TypeError, match="loss is fixed"):
        InteractiveDistiller(*models, KD())
    with pytest.raises(TypeError, match="has no `evaluate_distillation`"):
        InteractiveDistiller(*models, evaluate_distillation=True)
    distiller = InteractiveDistiller(*models)
    with pytest.raises(TypeError, match="constructor: .*teacher_optimizer="):
        distiller.compile("sgd", teacher_optimizer="sgd")
    with pytest.raises(ValueError, match=r"`set_exam\(x, y\)`"):
        distiller.set_exam(EXAM)


@pytest.mark.invariant(number=10)
def test_float16_is_refused():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        half = student()
    finally:
        keras.config.set_dtype_policy("float32")
    for models in ((teacher(), half), (half, student())):
        with pytest.raises(ValueError, match="computes in float16"):
            InteractiveDistiller(*models).fit(X, Y, exam=EXAM, verbose=0)


def test_a_compiler_without_a_second_derivative_is_refused():
    if keras.backend.backend() != "torch":
        pytest.skip("those of the others have one")
    small = student()
    small.compile("sgd", CE, jit_compile=True)
    distiller = InteractiveDistiller(teacher(), small)
    with pytest.raises(ValueError, match="`InteractiveDistiller`: .*jit_compile=False"):
        distiller.fit(X, Y, exam=EXAM, verbose=0)


@pytest.mark.single_backend
def test_a_teacher_that_cannot_learn_is_refused():
    large = teacher()
    large.trainable = False
    distiller = InteractiveDistiller(large, student())
    with pytest.raises(ValueError, match="no trainable weights, and is to learn"):
        distiller.fit(X, Y, exam=EXAM, verbose=0)
    with pytest.raises(TypeError, match="must be a `keras.Model`, since it is trained"):
        InteractiveDistiller([teacher(), teacher()], student())
