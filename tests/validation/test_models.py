"""Invariant 10: a wrong use is one clear error, before the first step."""

import re
import warnings

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller
from keras_dtkd.losses import DTKD, KD, LogitMSE
from keras_dtkd.metrics import (
    Agreement,
    AttentionEntropy,
    TargetNonTargetSplit,
    TeacherStudentKL,
    TemperatureStatistics,
)
from keras_dtkd.preparation.data_peek import peek
from keras_dtkd.temperatures import Constant, Dynamic
from keras_dtkd.validation import models
from tests.tiny_models import (
    CLASSES,
    FEATURES,
    data,
    numbers,
    one_hot,
    same,
    student,
    teacher,
    two_outputs,
)

pytestmark = pytest.mark.invariant(number=10)

X, Y = data(32)


def linear(classes=CLASSES, **kwargs):
    return keras.Sequential(
        [keras.Input((FEATURES,)), keras.layers.Dense(classes, **kwargs)]
    )


def with_nan(where):
    model = teacher()
    if where == "weights":
        values = model.get_weights()
        values[0][2, 3] = np.nan
        model.set_weights(values)
        return model
    # Sound weights, but the outputs overflow.
    outputs = keras.layers.Lambda(lambda z: keras.ops.exp(z * 1e4))(model.outputs[0])
    return keras.Model(model.inputs, outputs)


class Integers(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(CLASSES)

    def call(self, inputs):
        return keras.ops.cast(self.dense(inputs), "int32")


class Flat(Integers):
    def call(self, inputs):
        return self.dense(inputs)[:, 0]


class Picky(Integers):
    def call(self, inputs):
        raise RuntimeError("these inputs will not do")


def labels_with(last):
    y = Y.copy()
    y[-1] = last
    return y


# What is given: teacher, student, options of the Distiller, labels; and the message.
WRONG = {
    "classes": (lambda: (teacher(classes=3), student(), {}, None), "3 classes.*4"),
    "nan weights": (lambda: (with_nan("weights"), student(), {}, None), "weights.*NaN"),
    "nan outputs": (lambda: (with_nan("outputs"), student(), {}, None), "outputs.*NaN"),
    "integers from the teacher": (
        lambda: (Integers(), student(), {}, None),
        "teacher's output is no logits.*int32",
    ),
    "one number from the teacher": (
        lambda: (Flat(), student(), {}, None),
        r"teacher's output is no logits: shape \(\d+,\)",
    ),
    "one number from the student": (
        lambda: (teacher(), Flat(), {}, None),
        "student's output is no logits",
    ),
    "a student that cannot be built": (
        lambda: (teacher(), Picky(), {}, None),
        "student is not built.*Call it.*will not do",
    ),
    "a teacher that cannot be built": (
        lambda: (Picky(), student(), {}, None),
        "teacher is not built.*Call it.*will not do",
    ),
    "probabilities of the teacher as logits": (
        lambda: (teacher("softmax"), student(), {"from_logits": True}, None),
        "from_logits=True.*teacher gives probabilities",
    ),
    "probabilities of the student as logits": (
        lambda: (teacher(), student("sigmoid"), {"from_logits": True}, None),
        "from_logits=True.*student gives probabilities",
    ),
    "logits as probabilities": (
        lambda: (teacher(), student("softmax"), {"from_logits": False}, None),
        "from_logits=False.*teacher gives values from",
    ),
    "a class too many": (
        lambda: (teacher(), student(), {}, labels_with(CLASSES)),
        "labels from 0 to 4.*classes 0 to 3",
    ),
    "a negative label": (
        lambda: (teacher(), student(), {}, labels_with(-1)),
        "labels from -1 to 3.*classes 0 to 3",
    ),
    "no output named": (
        lambda: (two_outputs("dict"), student(), {}, None),
        "teacher has several outputs.*output=.*'label', 'size'",
    ),
    "an unknown output": (
        lambda: (two_outputs("list"), student(), {"output": "lable"}, None),
        "teacher has no output 'lable'.*'label', 'size'",
    ),
    "an output of the student that is not named": (
        lambda: (teacher(), two_outputs("list"), {}, None),
        "student has several outputs.*output=.*'label', 'size'",
    ),
    "outputs of different kinds": (
        lambda: (teacher("sigmoid"), student("softmax"), {}, None),
        "student ends in softmax and the teacher in sigmoid",
    ),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("method", ["fit", "train_on_batch"])
def test_wrong_models_or_data_raise_before_the_first_step(case, method):
    make, message = WRONG[case]
    large, small, options, y = make()
    before = numbers(small) if small.built else None
    d = Distiller(large, small, KD(), **options)
    run = getattr(d, method)
    with pytest.raises(ValueError, match="(?s)" + message) as caught:
        run(X, Y if y is None else y, **({"verbose": 0} if method == "fit" else {}))
    assert str(caught.value).startswith("`Distiller`")
    if before is not None:
        assert same(before, numbers(small))
    assert getattr(d, "optimizer", None) is None or int(d.optimizer.iterations) == 0


def test_all_labels_of_arrays_are_checked():
    x, y = data(200)
    y[198] = CLASSES
    assert CLASSES not in peek(x, y)[0].y
    with pytest.raises(ValueError, match="labels from 0 to 4"):
        Distiller(teacher(), student(), KD()).fit(x, y, verbose=0)


def test_labels_of_the_first_batch_of_a_generator_are_checked():
    def batches():
        for start in range(0, 32, 8):
            yield X[start : start + 8], labels_with(CLASSES)[::-1][start : start + 8]

    d = Distiller(teacher(), student(), KD())
    with pytest.raises(ValueError, match="labels from 0 to 4"):
        d.fit(batches(), verbose=0)


@pytest.mark.parametrize("dtype", ["U", "S", object])
def test_text_labels_raise(dtype):
    names = np.array(["cat", "dog", "cow", "hen"] * 4, dtype)
    with pytest.raises(ValueError, match="are no numbers. Number the classes"):
        Distiller(teacher(), student()).fit(data(16)[0], names, verbose=0)


def test_a_class_that_the_loss_ignores_is_a_valid_label():
    d = Distiller(teacher(), student(), KD())
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    d.compile("sgd", loss)
    d.fit(X, labels_with(-1), verbose=0)


def test_labels_of_a_regression_loss_need_not_be_classes():
    d = Distiller(teacher(), student(), LogitMSE())
    d.compile("sgd", "mse")
    d.fit(X, one_hot(Y) * 100, verbose=0)


def test_the_teacher_is_not_the_student():
    model = teacher()
    with pytest.raises(ValueError, match="the teacher is the student.*clone_model"):
        Distiller(model, model)


def test_teacher_and_student_share_nothing_that_is_trained():
    large = teacher()
    small = keras.Sequential([keras.Input((FEATURES,)), large.layers[-1]][:1])
    small.add(large.layers[1])
    with pytest.raises(ValueError, match=f"share.*{large.layers[1].kernel.path}"):
        Distiller(large, small)
    large.layers[1].trainable = False
    Distiller(large, small)


NUMBERS = {
    "weight": lambda: KD(weight=-0.1),
    "alpha": lambda: DTKD(alpha=-1.0),
    "beta": lambda: DTKD(beta=float("nan")),
    "warmup_epochs": lambda: KD(warmup_epochs=-1),
    "temperature": lambda: KD(temperature=0.0),
    "task_weight": lambda: Distiller(teacher(), student(), task_weight=-1.0),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_out_of_range_is_named_with_its_value(name):
    with pytest.raises(ValueError, match=rf"`{name}` must be.*{name}=(-|0|nan)"):
        NUMBERS[name]()


@pytest.mark.parametrize(
    "path, value",
    [("weight", -1), ("warmup_epochs", "soon"), ("temperature", -4.0)],
)
def test_setting_a_number_out_of_range_raises(path, value):
    loss = KD()
    with pytest.raises(ValueError, match=re.escape(f"{path}={value!r}")):
        setattr(loss, path, value)
    assert loss.weight == 1.0 and float(loss.temperature) == 4.0


ELSEWHERE = {
    "temperature": (3.0, r"student, KD\(temperature=3.0\)"),
    "alpha": (0.1, r"`task_weight=0.1`.*`KD\(weight=0.9\)`"),
    "distillation_loss": (None, r"student, KD\(\)"),
    "distillation_loss_weights": (0.5, r"`KD\(weight=0.5\)`"),
    "student_loss": ("mse", r"`compile\(optimizer, loss\)`"),
    "student_loss_weight": (0.9, r"`task_weight=0.9`.*`KD\(weight=0.1\)`"),
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_an_argument_of_keras_distiller_raises_with_its_replacement(name):
    value, message = ELSEWHERE[name]
    with pytest.raises(ValueError, match=f"no argument `{name}`. Give .*{message}"):
        Distiller(teacher(), student(), **{name: value})


def test_arguments_of_the_distiller_in_kerass_examples_raise_with_their_replacement():
    d = Distiller(teacher(), student())
    arguments = {"optimizer": "adam", "student_loss_fn": "mse", "alpha": 0.1}
    with pytest.raises(ValueError, match=r"Distiller.compile`.*task_weight=0.1"):
        d.compile(**arguments)
    with pytest.raises(ValueError, match="Distiller.fit`.*no argument `alpha`"):
        d.fit(X, Y, alpha=0.1)


@pytest.mark.parametrize(
    ("monitor", "here"),
    [
        ("val_total_loss", "`loss`"),
        ("student_loss", "`task_loss`"),
        ("val_distillation_loss", "`kd`"),
    ],
)
def test_a_callback_that_waits_for_a_name_of_keras_distiller_raises(monitor, here):
    callback = keras.callbacks.EarlyStopping(monitor=monitor)
    with pytest.raises(ValueError, match=f"{monitor}.*{here}"):
        Distiller(teacher(), student(), KD()).fit(X, Y, callbacks=[callback])


def test_an_exam_raises_with_the_interactive_distiller():
    with pytest.raises(TypeError, match=r"`InteractiveDistiller\(teacher, student\)"):
        Distiller(teacher(), student()).fit(X, Y, exam=(X, Y))


def other_inputs():
    return keras.Sequential(
        [keras.Input((2, 3)), keras.layers.Flatten(), keras.layers.Dense(CLASSES)]
    )


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_inputs_that_a_model_cannot_take_raise_with_their_shape(role):
    given = {"teacher": teacher(), "student": student(), role: other_inputs()}
    message = rf"the {role} cannot take the inputs: samples of shape \(6,\)"
    with pytest.raises(ValueError, match=message) as caught:
        Distiller(**given).fit(X, Y, verbose=0)
    text = str(caught.value)
    assert "It is made for samples of shape (2, 3)." in text
    assert "\x1b" not in text and "Traced" not in text and "[[" not in text


def test_a_distiller_is_no_student():
    with pytest.raises(TypeError, match="Pass the model.*`distiller.student`"):
        Distiller(teacher(), Distiller(teacher(), student()))


def test_the_name_of_a_file_is_no_teacher(tmp_path):
    path = tmp_path / "teacher.keras"
    with pytest.raises(TypeError, match=r"teacher.keras', which is no folder.*load_"):
        Distiller(path, student())


VALIDATION = {
    "shape": ((X.reshape(-1, 2, 3), Y), r"the student .* validation data.*\(2, 3\)"),
    "labels": ((X, Y[:9]), "32 validation inputs and 9 validation labels"),
    "weights": ((X, Y, np.ones(9)), "32 validation inputs and 9 validation weights"),
    "classes": ((X, Y + 1), "labels of the validation data from 1 to 4"),
}


@pytest.mark.parametrize("case", VALIDATION)
def test_validation_data_is_checked_before_the_first_step(case):
    given, message = VALIDATION[case]
    small = student()
    before = numbers(small)
    with pytest.raises(ValueError, match=message):
        Distiller(teacher(), small).fit(X, Y, validation_data=given, verbose=0)
    assert same(before, small)


@pytest.mark.parametrize("labels", [Y + 1, Y.astype(str)], ids=["range", "text"])
def test_wrong_labels_raise_without_a_warning_about_the_teacher(labels):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        with pytest.raises(ValueError, match="labels"):
            Distiller(teacher(), student()).fit(X, labels, verbose=0)


def test_nan_labels_raise():
    labels = Y.astype("float32")
    labels[31] = np.nan
    with pytest.raises(ValueError, match="labels hold NaN"):
        Distiller(teacher(), student()).fit(X, labels, verbose=0)


CHOICES = {
    "an unknown rule": (lambda: DTKD(rule="maximum"), "'exact', 'max', 'centered'"),
    "an unknown divergence": (lambda: KD(divergence="js"), "'kl'.*'jsd'.*js"),
    "a negative temperature": (lambda: Constant(-4.0), "temperature=-4.0"),
    "a temperature that is text": (
        lambda: KD(temperature="warm"),
        "temperature='warm'",
    ),
    "a minimum above the mean": (
        lambda: Dynamic(2.0, min_temperature=3.0),
        "min_temperature=3.0",
    ),
    "a gradient through exact": (lambda: DTKD(stop_gradient=False), "exact"),
    "a pair without constants": (
        lambda: DTKD.for_pair("resnet8", "resnet4"),
        "resnet32x4 → resnet8x4",
    ),
    "no loss": (lambda: Distiller(teacher(), student(), []), "is empty"),
    "a loss with a taken name": (
        lambda: Distiller(teacher(), student(), {"agreement": KD()}),
        "'agreement'",
    ),
    "from_logits": (
        lambda: Distiller(teacher(), student(), from_logits="yes"),
        "from_logits='yes'",
    ),
}


@pytest.mark.parametrize("case", CHOICES)
def test_a_wrong_choice_is_named_with_what_there_is(case):
    make, message = CHOICES[case]
    with pytest.raises(ValueError, match="(?s)" + message):
        make()


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Distiller("resnet", student()), "`teacher` must be.*str"),
        (lambda: Distiller(teacher(), "resnet"), "`student` must be.*str"),
        (lambda: Distiller(teacher(), student(), "dtkd"), "'dtkd'"),
    ],
    ids=["teacher", "student", "loss"],
)
def test_a_wrong_type_is_named(make, message):
    with pytest.raises(TypeError, match="(?s)" + message):
        make()


def chance_teacher():
    large = linear()
    large.set_weights([np.eye(FEATURES)[:, 1 : CLASSES + 1], np.zeros(CLASSES)])
    return large


@pytest.mark.parametrize("labels", [Y, one_hot(Y), Y[:, None]], ids=["i", "1hot", "2d"])
def test_a_teacher_at_chance_warns_with_its_accuracy(labels):
    large = chance_teacher()
    right = np.mean(large.predict(X, verbose=0).argmax(-1) == Y)
    with pytest.warns(UserWarning, match=f"{right:.1%}, no better than chance .25.0%"):
        Distiller(large, student(), KD()).fit(X, labels, verbose=0)


def test_a_multilabel_teacher_is_not_compared_with_chance():
    labels = np.zeros((32, CLASSES), "float32")
    labels[:, 1:] = 1.0
    assert not models.check_teacher_at_chance(np.eye(CLASSES)[[0] * 32], labels)


def test_a_good_teacher_gives_no_warning():
    for activation in (None, "softmax"):
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            d = Distiller(teacher(activation), student(), KD())
            d.fit(X, Y, verbose=0)
            d.fit(X, verbose=0)


def test_evaluate_without_labels_raises():
    d = Distiller(teacher(), student(), KD())
    with pytest.raises(ValueError, match="no labels.*evaluate_distillation=True"):
        d.evaluate(X, verbose=0)


def test_several_outputs_without_losses_raise():
    d = Distiller(teacher(), two_outputs("dict"), KD(), output="label")
    with pytest.raises(ValueError, match="several outputs.*student.compile"):
        d.fit(X, {"label": Y, "size": X[:, :1]}, verbose=0)


@pytest.mark.parametrize(
    "metric",
    [
        Agreement(),
        AttentionEntropy(),
        TeacherStudentKL(),
        TemperatureStatistics(4.0),
        TargetNonTargetSplit(),
    ],
)
@pytest.mark.parametrize("by", ["metrics", "weighted_metrics"])
def test_a_metric_of_other_inputs_cannot_be_compiled(metric, by):
    message = f"'{metric.name}' needs other inputs than labels.*update_state"
    d = Distiller(teacher(), student())
    with pytest.raises(ValueError, match=message):
        d.compile("sgd", "mse", **{by: [metric]})
    small = student()
    small.compile("sgd", "mse", **{by: {"dense": [metric]}})
    with pytest.raises(ValueError, match=message):
        Distiller(teacher(), small).fit(X, one_hot(Y), verbose=0)


def test_a_student_without_trainable_weights_raises():
    small = student()
    small.trainable = False
    with pytest.raises(ValueError, match="no trainable weights.*trainable = True"):
        Distiller(teacher(), small, KD()).fit(X, Y, verbose=0)
    # It can be evaluated.
    Distiller(teacher(), small, KD()).evaluate(X, Y, verbose=0)


@pytest.mark.parametrize("width", [CLASSES - 1, CLASSES + 3])
@pytest.mark.parametrize("compiled", [False, True])
def test_one_hot_labels_of_another_width_raise(width, compiled):
    small = student()
    if compiled:
        small.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
    y = np.zeros((32, width), "float32")
    with pytest.raises(ValueError, match=rf"shape \(32, {width}\).*{CLASSES} classes"):
        Distiller(teacher(), small, KD()).fit(X, y, verbose=0)
