"""A loss names the output it compares, as it may name a view."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd import Distiller
from keras_dtkd.losses import DKD, KD, DistillationLoss, LogitMSE
from keras_dtkd.views import Mixup
from tests.tiny_models import FEATURES, data, numbers, student, teacher

A, B = 4, 3


def two_labels(kind="dict", seed=1):
    """Two classifiers on one trunk: `first` of 4 classes, `second` of 3."""
    inputs = keras.Input((FEATURES,))
    hidden, *heads = (
        keras.layers.Dense(
            units,
            name=name,
            kernel_initializer=keras.initializers.GlorotUniform(seed + i),
        )
        for i, (units, name) in enumerate([(8, "trunk"), (A, "first"), (B, "second")])
    )
    first, second = (head(hidden(inputs)) for head in heads)
    outputs = {"first": first, "second": second} if kind == "dict" else [first, second]
    return keras.Model(inputs, outputs, name="two_labels")


def compiled(model, kind="dict"):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    losses = {"first": loss, "second": loss} if kind == "dict" else [loss, loss]
    model.compile(keras.optimizers.SGD(0.1), losses)
    return model


def labels(kind="dict"):
    x, first = data(16)
    second = (x[:, 0] > 0).astype(int) + (x[:, 1] > 0)
    return x, {"first": first, "second": second} if kind == "dict" else [first, second]


@keras.saving.register_keras_serializable("tests")
class RecordLabels(DistillationLoss):
    """Keeps the shapes of what reaches it."""

    def compute(self, step):
        self.seen = step.y, step.student_logits.shape[-1], step.sample_weight
        return ops.mean((step.student_logits - step.teacher_logits) ** 2, axis=-1)


@pytest.mark.parametrize("kind", ["dict", "list"])
@pytest.mark.graph
def test_each_output_is_distilled_by_its_own_losses(kind):
    x, _ = labels()
    large, small = two_labels(kind, 9), two_labels(kind)
    first, second = KD(2.0, output="first"), LogitMSE(weight=0.5, output="second")
    d = Distiller(large, small, {"kd": first, "mse": second})
    values = {
        n: float(v) for n, v in d.compute_losses(ops.convert_to_tensor(x)).items()
    }

    def part(model, name):
        output = model.get_layer(name).output
        return keras.Model(model.inputs, output)

    for name, output, loss in (("kd", "first", KD(2.0)), ("mse", "second", LogitMSE())):
        alone = Distiller(part(large, output), part(small, output), loss)
        expected = alone.compute_losses(ops.convert_to_tensor(x))
        assert values[name] == pytest.approx(float(expected[loss.name]), rel=1e-5)


def test_both_outputs_learn_from_their_losses_alone():
    x, _ = labels()
    small = two_labels()
    before = numbers(small)
    d = Distiller(two_labels(seed=9), small, KD(output="second"))
    d.compile(keras.optimizers.SGD(0.1))
    d.fit(x, verbose=0)
    paths = [v.path for v in small.weights]
    moved = {
        path: not np.array_equal(a, b)
        for path, a, b in zip(paths, before, numbers(small), strict=True)
    }
    assert moved["second/kernel"] and moved["trunk/kernel"]
    assert not moved["first/kernel"]


@pytest.mark.parametrize("kind", ["dict", "list"])
@pytest.mark.graph
def test_labels_and_weights_of_that_output_reach_the_loss(kind):
    x, y = labels(kind)
    loss = RecordLabels(output="second")
    small = compiled(two_labels(kind), kind)
    d = Distiller(two_labels(kind, 9), small, [KD(output="first"), loss])
    d.compile(keras.optimizers.SGD(0.1), small.loss, run_eagerly=True)
    d.fit(x, y, batch_size=16, verbose=0, shuffle=False)
    y_second = y["second"] if kind == "dict" else y[1]
    seen, classes, _ = loss.seen
    assert classes == B
    np.testing.assert_array_equal(ops.convert_to_numpy(seen).reshape(-1), y_second)


def test_logs_of_a_fit_hold_every_loss_and_the_agreement_of_the_main_output():
    x, y = labels()
    large = two_labels(seed=9)
    d = Distiller(
        large, compiled(two_labels()), [KD(output="second"), LogitMSE(output="first")]
    )
    logs = d.fit(x, y, batch_size=16, verbose=0).history
    small = two_labels()
    agrees = np.mean(
        ops.convert_to_numpy(small(x)["second"]).argmax(-1)
        == ops.convert_to_numpy(large(x)["second"]).argmax(-1)
    )
    assert {"kd", "logit_mse", "task_loss"} <= set(logs)
    assert logs["agreement"][0] == pytest.approx(agrees, abs=1e-6)


def test_a_loss_without_an_output_compares_the_distillers():
    x, _ = labels()
    losses = [KD(2.0), KD(2.0, name="other", output="second")]
    d = Distiller(two_labels(seed=9), two_labels(), losses, output="first")
    named = Distiller(two_labels(seed=9), two_labels(), KD(2.0, output="first"))
    x = ops.convert_to_tensor(x)
    expected = float(named.compute_losses(x)["kd"])
    assert float(d.compute_losses(x)["kd"]) == pytest.approx(expected, rel=1e-6)


def test_kinds_of_outputs_are_inferred_for_each():
    inputs = keras.Input((FEATURES,))

    def build(seed):
        trunk = keras.layers.Dense(8)(inputs)
        soft = keras.layers.Dense(A, activation="softmax", name="soft")(trunk)
        tags = keras.layers.Dense(B, activation="sigmoid", name="tags")(trunk)
        return keras.Model(inputs, {"soft": soft, "tags": tags})

    d = Distiller(build(0), build(1), [KD(output="soft"), KD(name="b", output="tags")])
    d.compile("sgd")
    logs = d.fit(labels()[0], verbose=0).history
    assert np.isfinite(logs["kd"][0]) and np.isfinite(logs["b"][0])
    kinds = {
        key: pair.student.output_kind for key, pair in d.output_specs.pairs.items()
    }
    assert kinds == {"soft": "softmax", "tags": "sigmoid"}


def test_the_output_is_saved_and_loaded(tmp_path):
    x, y = labels()
    d = Distiller(two_labels(seed=9), compiled(two_labels()), KD(output="second"))
    d.fit(x, y, verbose=0)
    d.save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras")
    loaded.teacher = d.teacher
    assert loaded.distillation_losses["kd"].distilled_output == "second"
    first, again = (
        m.fit(x, y, shuffle=False, verbose=0).history["kd"] for m in (d, loaded)
    )
    assert first == again


@pytest.mark.parametrize("output", ["third", 5])
def test_an_unknown_output_is_refused_before_the_first_step(output):
    small = two_labels()
    before = numbers(small)
    with pytest.raises(ValueError, match=r"no output .*'first', 'second'"):
        Distiller(two_labels(), small, KD(output=output)).fit(labels()[0])
    assert all(
        np.array_equal(a, b) for a, b in zip(before, numbers(small), strict=True)
    )


def test_a_loss_without_an_output_needs_the_distillers_choice():
    losses = [KD(output="first"), LogitMSE()]
    with pytest.raises(ValueError, match="Choose one with `output=`"):
        Distiller(two_labels(), two_labels(), losses).fit(labels()[0])


@pytest.mark.parametrize("output", [1.5, True, ["first"]])
def test_an_output_is_a_name_or_an_index(output):
    with pytest.raises(TypeError, match="name or the index"):
        KD(output=output)


def test_models_of_one_output_may_name_it():
    x, y = data(16)
    d = Distiller(teacher(), student(), KD(output=0))
    assert np.isfinite(d.fit(x, y, verbose=0).history["kd"][0])


def test_an_output_without_labels_is_distilled_beside_one_with_labels():
    x, y = labels()
    small = two_labels()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    small.compile(keras.optimizers.SGD(0.1), {"first": loss})
    before = dict(zip([v.path for v in small.weights], numbers(small), strict=True))
    d = Distiller(two_labels(seed=9), small, KD(output="second"))
    # The labels of `first` name no class of `second`.
    logs = d.fit(x, {"first": np.full(16, A - 1)}, verbose=0).history
    assert {"task_loss", "kd"} <= set(logs)
    after = dict(zip([v.path for v in small.weights], numbers(small), strict=True))
    for path in ("first/kernel", "second/kernel"):
        assert (before[path] != after[path]).any()


def test_a_binary_loss_of_another_output_leaves_this_one_alone():
    small = two_labels()
    small.compile("sgd", {"first": keras.losses.BinaryCrossentropy(from_logits=True)})
    d = Distiller(two_labels(seed=9), small, KD(output="second"))
    d.compute_losses(ops.convert_to_tensor(labels()[0]))
    assert d.output_specs.get("second").student.output_kind == "logits"


def test_missing_labels_of_that_output_are_found_before_the_first_step():
    x, y = labels()
    d = Distiller(two_labels(seed=9), compiled(two_labels()), DKD(output="second"))
    with pytest.raises(ValueError, match="`dkd` needs the labels of its output"):
        d.fit(x, {"first": y["first"]})


def test_a_loss_with_labels_on_a_view_is_refused_before_the_first_step():
    x, y = data(16)
    d = Distiller(teacher(), student(), DKD(view="mixup"), views=Mixup())
    with pytest.raises(ValueError, match="`dkd` needs labels, and a view has none"):
        d.fit(x, y)


def test_sample_weights_of_that_output_reach_the_loss():
    x, y = labels()
    weights = {"first": np.ones(16), "second": np.zeros(16)}
    moved = []
    for name in ("first", "second"):
        small = two_labels()
        before = numbers(small)
        d = Distiller(two_labels(seed=9), small, KD(output=name), task_weight=0.0)
        d.compile(keras.optimizers.SGD(0.1), compiled(two_labels()).loss)
        d.fit(x, y, sample_weight=weights, verbose=0)
        pairs = zip(before, numbers(small), strict=True)
        moved.append(any((a != b).any() for a, b in pairs))
    assert moved == [True, False]
