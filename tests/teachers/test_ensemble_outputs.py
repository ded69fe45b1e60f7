"""Members may give logits, probabilities, or several outputs."""

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller
from keras_dtkd.core.logits import OutputKind
from keras_dtkd.losses import KD
from keras_dtkd.preparation.data_peek import peek
from keras_dtkd.preparation.output_inference import infer_output_specs
from keras_dtkd.teachers import Ensemble, resolve_teacher
from tests import oracles
from tests.stub_teachers import StubTeacher, draw, ensemble_of, outputs_of
from tests.tiny_models import CLASSES, data, student, teacher, two_outputs

X, Y = data(16)
A, B = (draw(8, 5, seed=seed) for seed in range(2))


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


class Unreadable(keras.Model):
    """Its layers do not show its output kind: only its values do."""

    def __init__(self, classes=CLASSES):
        super().__init__()
        self.dense = keras.layers.Dense(classes)

    def call(self, inputs):
        return keras.ops.softmax(self.dense(inputs))


# Members with outputs of different kinds.


@pytest.mark.parametrize("average", ["logits", "probs"])
def test_softmax_and_logits_are_averaged_alike(average):
    large = [teacher(head, scale=s) for head, s in (("softmax", 1), (None, 0.5))]
    plain = [teacher(scale=s) for s in (1, 0.5)]
    ensemble = Ensemble(large, [0.3, 0.7], average)
    assert ensemble.output_kinds == [OutputKind.SOFTMAX, OutputKind.LOGITS]
    assert ensemble.output_kind == OutputKind.LOGITS
    found = oracles.softmax(outputs_of(ensemble, X).astype("float64"))
    expected = oracles.softmax(outputs_of(Ensemble(plain, [0.3, 0.7], average), X))
    assert np.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("labels", [1, 5])
@pytest.mark.parametrize("average", ["logits", "probs"])
def test_members_with_a_sigmoid_judge_each_label(labels, average):
    a, b = A[:, :labels], B[:, :labels]
    probabilities = StubTeacher(sigmoid(a).astype("float32"), OutputKind.SIGMOID)
    found = ensemble_of(probabilities, b, weights=[0.3, 0.7], average=average)
    p = 0.3 * sigmoid(a) + 0.7 * sigmoid(b)
    expected = 0.3 * a + 0.7 * b if average == "logits" else np.log(p / (1 - p))
    assert found.shape == (8, labels)
    assert np.allclose(found, expected, atol=1e-4)


def test_with_a_sigmoid_it_gives_logits_of_labels():
    assert (
        Ensemble([teacher("sigmoid"), teacher()]).output_kind
        == OutputKind.BINARY_LOGITS
    )


def test_a_softmax_beside_a_sigmoid_is_refused():
    for pair in ("softmax", "sigmoid"), ("sigmoid", "softmax"):
        ensemble = Ensemble([teacher(head) for head in pair])
        with pytest.raises(ValueError, match="`Ensemble`.*different kinds.*same kind"):
            Distiller(ensemble, student(), KD()).fit(X, Y, verbose=0)


def inferred_kinds(given, small=None, **options):
    d = Distiller(given, small or student(), KD(), **options)
    specs = infer_output_specs(d, peek(X, Y)[0])[0].get()
    kinds = tuple(spec.output_kind for spec in specs)
    return d.teacher_reference.teacher, kinds


def test_a_kind_that_layers_do_not_show_is_inferred_from_values():
    unreadable = Unreadable()
    unreadable(X)
    ensemble, found = inferred_kinds([unreadable, teacher()])
    assert ensemble.output_kinds == [OutputKind.SOFTMAX, OutputKind.LOGITS]
    assert found == (OutputKind.LOGITS, OutputKind.LOGITS)


def test_from_logits_holds_for_each_member():
    members = [teacher("softmax"), teacher("softmax")]
    ensemble, _ = inferred_kinds(members, student("softmax"), from_logits=False)
    assert ensemble.output_kinds == [OutputKind.SOFTMAX] * 2
    with pytest.raises(ValueError, match="teacher's member 2 of 2 gives probabilities"):
        inferred_kinds([teacher(), teacher("softmax")], from_logits=True)


def test_beside_a_student_of_labels_it_averages_probabilities_of_labels():
    small = student()
    small.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=True))
    pair = [teacher(scale=1.0), Ensemble([student(seed=3)])]
    ensemble, found = inferred_kinds(Ensemble(pair, average="probs"), small)
    assert found == (OutputKind.BINARY_LOGITS, OutputKind.BINARY_LOGITS)
    p = sum(sigmoid(outputs_of(resolve_teacher(member), X)) for member in pair) / 2
    assert np.allclose(outputs_of(ensemble, X), np.log(p / (1 - p)), atol=1e-4)


def test_a_softmax_beside_a_student_of_labels_is_refused():
    for given in ([teacher("softmax")] * 2, [teacher(), teacher("softmax")]):
        for nested in (given, [Ensemble(given)]):
            small = student()
            small.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=True))
            with pytest.raises(ValueError, match="member ends in a softmax"):
                inferred_kinds(nested, small)


# Several outputs.


@pytest.mark.parametrize("kind", ["dict", "list"])
def test_several_outputs_are_averaged_one_by_one(kind):
    pair = two_outputs(kind), two_outputs(kind, seed=5)
    outputs = [model.predict(X, verbose=0) for model in pair]
    expected = keras.tree.map_structure(lambda a, b: 0.3 * a + 0.7 * b, *outputs)
    found = outputs_of(Ensemble(pair, [0.3, 0.7]), X)
    keras.tree.assert_same_structure(found, expected)
    for a, b in zip(*map(keras.tree.flatten, (found, expected)), strict=True):
        assert np.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("kind", ["dict", "list"])
def test_one_of_several_outputs_is_distilled(kind):
    pair = [two_outputs(kind), two_outputs(kind, seed=5)]
    d = Distiller(pair, student(), KD(), output="label")
    assert d.fit(X, Y, verbose=0).history["kd"][0] > 0
    kinds = {spec.output_kind for spec in d.output_specs.get()}
    assert kinds == {OutputKind.LOGITS}


def test_several_outputs_of_different_kinds_are_refused():
    soft = two_outputs("dict", seed=5)
    label, size = soft.output["label"], soft.output["size"]
    label = keras.layers.Softmax(name="soft")(label)
    soft = keras.Model(soft.inputs, {"label": label, "size": size})
    d = Distiller([two_outputs("dict"), soft], student(), KD(), output="label")
    with pytest.raises(ValueError, match="different kinds.*logits, softmax"):
        d.fit(X, Y, verbose=0)
    alike = Distiller([soft, soft], student(), KD(), output="label")
    assert (
        infer_output_specs(alike, peek(X, Y)[0])[0].get().teacher.output_kind
        == OutputKind.SOFTMAX
    )


def test_several_outputs_are_not_averaged_as_probabilities():
    ensemble = Ensemble([two_outputs("dict")] * 2, average="probs")
    with pytest.raises(ValueError, match="several outputs.*average='logits'"):
        outputs_of(ensemble, X)
