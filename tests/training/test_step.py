"""What a loss sees of a step."""

import dataclasses

import keras
import numpy as np
import pytest

from keras_dtkd import Step
from keras_dtkd.losses import DistillationLoss
from tests.tiny_models import CLASSES, data, distiller, student, teacher, two_outputs

STEPS = []


class Looking(DistillationLoss):
    """Keeps the step, for the tests to look at."""

    def compute(self, step):
        STEPS.append(step)
        return step.student_logits[..., 0]


def step_of(x, y, sample_weight=None, **options):
    d = distiller(Looking(), None, **options)
    d.compile("sgd", run_eagerly=True)
    d.train_on_batch(x, y, sample_weight)
    return STEPS.pop(), d


def test_a_step_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Step().x = 1


def test_a_loss_may_be_given_what_it_needs_and_no_more():
    step = Step(student_logits=1, teacher_logits=2)
    assert step.y is None and step.training is True and step.teacher_features is None
    assert {field.name for field in dataclasses.fields(Step)} == {
        "x",
        "columns",
        "y",
        "sample_weight",
        "student_outputs",
        "teacher_outputs",
        "student_logits",
        "teacher_logits",
        "student_features",
        "teacher_features",
        "student_input_gradient",
        "teacher_input_gradient",
        "student",
        "teacher",
        "training",
    }


def test_it_holds_the_batch_and_both_outputs():
    x, y = data(8)
    large = teacher("softmax", dtype="float16")
    step, d = step_of(x, y, np.arange(8.0), teacher=large, student=student())
    assert tuple(step.x.shape) == x.shape
    assert step.student is d.student and step.teacher.model is large
    assert step.training
    for value in (step.student_logits, step.teacher_logits):
        assert tuple(value.shape) == (8, CLASSES)
        assert keras.backend.standardize_dtype(value.dtype) == "float32"
    # float16 outputs as they are; logits recovered from the softmax.
    assert keras.backend.standardize_dtype(step.teacher_outputs.dtype) == "float16"
    if keras.config.backend() == "torch":
        assert not step.teacher_logits.requires_grad
        assert step.student_logits.requires_grad
        assert np.array_equal(step.y, y)
        assert np.array_equal(step.sample_weight, np.arange(8.0))
        teacher_logits = keras.ops.softmax(step.teacher_logits)
        assert np.allclose(teacher_logits, large.predict(x, verbose=0), atol=1e-3)


@pytest.mark.parametrize("kind", ["dict", "list"])
def test_it_holds_labels_and_weights_of_the_distilled_output(kind):
    x, y = data(8)
    nested = {"label": y, "size": x[:, :1]} if kind == "dict" else [y, x[:, :1]]
    step, _ = step_of(
        x,
        nested,
        teacher=two_outputs(kind, 9),
        student=two_outputs(kind),
        output="label",
    )
    assert tuple(step.y.shape) == (8,)
    assert len(step.student_outputs) == len(step.teacher_outputs) == 2
    assert tuple(step.student_logits.shape) == (8, CLASSES)


def test_without_labels_there_are_none():
    step, _ = step_of(data(8)[0], None)
    assert step.y is None and step.sample_weight is None
