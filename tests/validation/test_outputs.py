"""What kind of outputs the models give, found out before the first step."""

import warnings

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller
from keras_dtkd.core import logits
from keras_dtkd.core.logits import OutputKind
from keras_dtkd.losses import CKD, KD, BinaryKD, LogitMSE
from keras_dtkd.preparation.data_peek import peek
from keras_dtkd.preparation.output_inference import infer_output_specs
from tests.tiny_models import CLASSES, FEATURES, data, student, teacher, two_outputs

X, Y = data(16)


class Unreadable(keras.Model):
    """A subclassed model: only its values show its output kind."""

    def __init__(self, activation=None, classes=CLASSES):
        super().__init__()
        self.dense = keras.layers.Dense(classes)
        self.last = activation or (lambda z: z)

    def call(self, inputs):
        return self.last(self.dense(inputs))


def inferred_kinds(large, small, **options):
    d = Distiller(large, small, KD(), **options)
    return tuple(o.output_kind for o in infer_output_specs(d, peek(X, Y)[0])[0].get())


def separate(activation):
    """The activation as a layer of its models, as in many published models."""
    model = student()
    model.add(activation)
    return model


MODELS = {
    "logits": (lambda: student(), OutputKind.LOGITS),
    "softmax": (lambda: student("softmax"), OutputKind.SOFTMAX),
    "softmax layer": (lambda: separate(keras.layers.Softmax()), OutputKind.SOFTMAX),
    "activation layer": (
        lambda: separate(keras.layers.Activation("softmax")),
        OutputKind.SOFTMAX,
    ),
    "nested": (
        lambda: keras.Sequential([keras.Input((FEATURES,)), student("softmax")]),
        OutputKind.SOFTMAX,
    ),
    "subclassed, logits": (lambda: Unreadable(), OutputKind.LOGITS),
    "subclassed, softmax": (
        lambda: Unreadable(keras.activations.softmax),
        OutputKind.SOFTMAX,
    ),
    "half precision": (
        lambda: student("softmax", dtype="bfloat16"),
        OutputKind.SOFTMAX,
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_output_kind_is_inferred(name):
    make, kind = MODELS[name]
    assert inferred_kinds(make(), make()) == (kind, kind)
    assert inferred_kinds(teacher(), make()) == (kind, OutputKind.LOGITS)


def test_logits_beside_a_sigmoid_are_multilabel():
    assert inferred_kinds(teacher("sigmoid"), student()) == (
        OutputKind.BINARY_LOGITS,
        OutputKind.SIGMOID,
    )
    assert inferred_kinds(teacher(), student("sigmoid")) == (
        OutputKind.SIGMOID,
        OutputKind.BINARY_LOGITS,
    )


def test_a_single_output_is_binary():
    pair = teacher(classes=1), student(classes=1)
    assert inferred_kinds(*pair) == (OutputKind.BINARY_LOGITS, OutputKind.BINARY_LOGITS)


def test_a_binary_loss_makes_logits_multilabel():
    small = student()
    small.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=True))
    assert inferred_kinds(teacher(), small) == (
        OutputKind.BINARY_LOGITS,
        OutputKind.BINARY_LOGITS,
    )


@pytest.mark.parametrize("losses", [BinaryKD(), [KD(), BinaryKD()]])
def test_a_multilabel_loss_makes_logits_multilabel(losses):
    sample = peek(X, Y)[0]
    for large, small, expected in (
        (teacher(), student(), (OutputKind.BINARY_LOGITS, OutputKind.BINARY_LOGITS)),
        (teacher(), student("sigmoid"), (OutputKind.SIGMOID, OutputKind.BINARY_LOGITS)),
        (teacher("sigmoid"), student(), (OutputKind.BINARY_LOGITS, OutputKind.SIGMOID)),
        (
            [teacher(), teacher()],
            student(),
            (OutputKind.BINARY_LOGITS, OutputKind.BINARY_LOGITS),
        ),
    ):
        d = Distiller(large, small, losses)
        assert (
            tuple(o.output_kind for o in infer_output_specs(d, sample)[0].get())
            == expected
        )
        alone = infer_output_specs(d, sample, with_teacher=False)[0].get().student
        assert alone.output_kind == expected[0]


@pytest.mark.invariant(number=10)
def test_a_multilabel_loss_refuses_a_softmax():
    for large, small, wrong in (
        (teacher(), student("softmax"), "the student ends in a softmax"),
        (teacher("softmax"), student(), "the teacher ends in a softmax"),
        ([teacher("softmax")] * 2, student(), "the teacher ends in a softmax"),
    ):
        with pytest.raises(ValueError, match=f"`binary_kd` .* {wrong}"):
            Distiller(large, small, BinaryKD()).fit(X, Y, verbose=0)


def test_declared_from_logits_takes_precedence():
    models = (
        Unreadable(keras.activations.softmax),
        Unreadable(keras.activations.softmax),
    )
    assert inferred_kinds(*models, from_logits=False) == (
        OutputKind.SOFTMAX,
        OutputKind.SOFTMAX,
    )
    models = (
        Unreadable(keras.activations.sigmoid),
        Unreadable(keras.activations.sigmoid),
    )
    assert inferred_kinds(*models, from_logits=False) == (
        OutputKind.SIGMOID,
        OutputKind.SIGMOID,
    )
    assert (
        inferred_kinds(teacher(), student(), from_logits=True)
        == (OutputKind.LOGITS,) * 2
    )


@pytest.mark.parametrize("kind", ["dict", "list"])
def test_output_kind_is_that_of_the_chosen_output(kind):
    small = two_outputs(kind)
    nested = keras.tree.map_structure(lambda t: t, small.output)
    label = nested["label"] if kind == "dict" else nested[0]
    size = nested["size"] if kind == "dict" else nested[1]
    soft = keras.layers.Softmax(name="soft")(label)
    outputs = {"label": soft, "size": size} if kind == "dict" else [soft, size]
    model = keras.Model(small.inputs, outputs)
    key = "label" if kind == "dict" else 0
    assert inferred_kinds(teacher(), model, output=key)[0] == OutputKind.SOFTMAX


@pytest.mark.parametrize("activation", [None, "softmax", "sigmoid"])
def test_recovered_logits_give_the_models_probabilities_back(activation):
    model = teacher(activation, scale=1.0)
    probabilities = {
        None: keras.ops.softmax,
        "softmax": lambda p: p,
        "sigmoid": lambda p: keras.ops.stack([1 - p, p], axis=-1),
    }[activation](model(X))
    kind = {
        None: OutputKind.LOGITS,
        "softmax": OutputKind.SOFTMAX,
        "sigmoid": OutputKind.SIGMOID,
    }
    recovered = keras.ops.softmax(logits.to_logits(model(X), kind[activation]))
    assert np.allclose(
        keras.ops.convert_to_numpy(recovered),
        keras.ops.convert_to_numpy(probabilities),
        atol=1e-5,
    )


def test_output_kind_of_a_teacher_without_model_is_inferred_from_values():
    class Stored:
        variables = []

        def outputs(self, x, sample_ids=None):
            return keras.ops.softmax(keras.ops.convert_to_tensor(x)[:, :CLASSES])

        def fingerprint(self):
            return "stored"

    d = Distiller(Stored(), student(), KD())
    specs, values = infer_output_specs(d, peek(X, Y)[0])
    large = specs.get().teacher
    assert large.output_kind == OutputKind.SOFTMAX and values.shape == (16, CLASSES)


def test_sequences_of_different_length_raise():
    short = keras.Sequential([keras.Input((3, 2)), keras.layers.Dense(4)])
    long = keras.Sequential(
        [
            keras.Input((3, 2)),
            keras.layers.ZeroPadding1D(1),
            keras.layers.Dense(4),
        ]
    )
    with pytest.raises(ValueError, match=r"different shapes, \(8, 5, 4\).*\(8, 3, 4\)"):
        Distiller(long, short, KD()).fit(np.ones((8, 3, 2)), verbose=0)


@pytest.mark.parametrize("loss", [LogitMSE, CKD])
@pytest.mark.parametrize("softmax", ["student", "teacher"])
def test_uncentered_loss_beside_a_softmax_warns(loss, softmax):
    """They are known up to a constant of each sample only."""

    def pair():
        for role in ("teacher", "student"):
            last = "softmax" if role == softmax else None
            dense = keras.layers.Dense(CLASSES, activation=last)
            yield keras.Sequential([keras.Input((FEATURES,)), dense])

    with pytest.warns(UserWarning, match=f"raw logits, and those of the {softmax}"):
        Distiller(*pair(), loss()).fit(X, Y, verbose=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Distiller(*pair(), loss(centered=True)).fit(X, Y, verbose=0)
        both = keras.models.clone_model(next(pair()))
        Distiller(next(pair()), both, loss()).fit(X, Y, verbose=0)
    assert not [w for w in caught if "raw logits" in str(w.message)]


def cleaned(model):
    """The same model, which makes zeros of NaN first."""
    inputs = keras.Input((FEATURES,))
    return keras.Model(inputs, model(keras.ops.nan_to_num(inputs)))


@pytest.mark.invariant(number=10)
@pytest.mark.parametrize("role", ["teacher", "student"])
def test_nan_inputs_that_reach_an_output_raise(role):
    x = X.copy()
    x[::2, 1] = np.nan
    large, small = teacher(), student()
    large = cleaned(large) if role == "student" else large
    small = cleaned(small) if role == "teacher" else small
    d = Distiller(large, small, KD())
    # Also after valid data of the same shape.
    d.fit(X, Y, verbose=0)
    before = [w.numpy() for w in small.trainable_variables]
    with pytest.raises(ValueError, match=rf"{role}'s first outputs|NaN in its inputs"):
        d.fit(x, Y, verbose=0)
    with pytest.raises(ValueError, match="8 of 16 samples"):
        d.fit(x, Y, verbose=0)
    for variable, value in zip(small.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_nan_inputs_with_finite_outputs_of_both_models_warn():
    x = X.copy()
    x[::2, 1] = np.nan
    d = Distiller(cleaned(teacher()), cleaned(student()), KD())
    with pytest.warns(UserWarning, match="NaN in its inputs.*finite outputs all the"):
        d.fit(x, Y, verbose=0)


@pytest.mark.invariant(number=10)
def test_an_unknown_output_raises_with_the_known_names():
    with pytest.raises(ValueError, match=r"no output 'size'.*leave `output=` out\.$"):
        Distiller(teacher(), student(), output="size").fit(X, Y, verbose=0)
    inputs = keras.Input((FEATURES,))
    small = keras.Model(inputs, keras.layers.Dense(CLASSES, name="label")(inputs))
    with pytest.raises(ValueError, match="or name it: 'label'"):
        Distiller(teacher(), small, output="size").fit(X, Y, verbose=0)


def test_values_in_the_unit_interval_alone_do_not_imply_a_sigmoid():
    class Halves:
        variables = []

        def outputs(self, x, sample_ids=None):
            x = keras.ops.convert_to_tensor(x)
            return 0.5 * keras.ops.ones_like(x[:, :CLASSES])

        def fingerprint(self):
            return "halves"

    d = Distiller(Halves(), student(), KD())
    assert (
        infer_output_specs(d, peek(X, Y)[0])[0].get().teacher.output_kind
        == OutputKind.LOGITS
    )


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_probabilities_in_float16_that_lose_soft_targets_warn(head, dtype):
    large = teacher()
    body = [*large.layers, keras.layers.Rescaling(20.0)]
    body.append(keras.layers.Activation(head, dtype=dtype))
    large = keras.Sequential([keras.Input((6,)), *body])
    x, y = data(32)
    if head == "sigmoid":
        y = np.eye(4, dtype="float32")[y]
    small = student(head=head)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        Distiller(large, small).fit(x, y, verbose=0)
    messages = [
        str(w.message) for w in found if "soft targets are lost" in str(w.message)
    ]
    assert len(messages) == (dtype == "float16")
