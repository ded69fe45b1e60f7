"""Training with all losses and temperatures at once: one compiled step shows them."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd import Distiller
from keras_dtkd.core.hyperparameters import HyperparameterMixin
from keras_dtkd.core.layer_tree import iter_layers
from keras_dtkd.losses import BinaryKD, DistillationLoss
from tests import tiny_models
from tests.conformance.programs import SWEPT_LOSSES, compute_mean
from tests.registry import LOSSES, TEMPERATURES
from tests.selection import JIT_COMPILE, RUNS_ALL_EVERYWHERE
from tests.tiny_models import data, one_hot, student, teacher

pytestmark = pytest.mark.filterwarnings("ignore:`Standardized`")
X, Y = data(16)
OPTIONS = {"batch_size": 16, "shuffle": False, "verbose": 0}


def in_one_distiller(names):
    """Those that can be in one: all ask for the same input gradients, or for none."""
    built = {name: SWEPT_LOSSES[name].build(name=name) for name in names}
    return {
        name: loss
        for name, loss in built.items()
        if not loss.multilabel
        and loss.input_gradient in (None, "exact")
        and loss.input_gradient_labels == "data"
    }


def label_by_label():
    """`BinaryKD` at every temperature."""
    return {name: BinaryKD(entry.build()) for name, entry in TEMPERATURES.items()}


def array(variable):
    return np.array(ops.convert_to_numpy(variable.value))


def state(distiller):
    """All that training changes."""
    return [array(v) for v in [*distiller.variables, *distiller.optimizer.variables]]


@pytest.mark.invariant(number=3)
@pytest.mark.invariant(number=8)
@pytest.mark.invariant(number=9)
@pytest.mark.parametrize("kind", ["classes", "labels"])
def test_all_train_and_continue_bit_for_bit_after_loading(kind, tmp_path):
    head = "sigmoid" if kind == "labels" else None
    task = "binary" if kind == "labels" else "sparse_categorical"
    y = one_hot(Y) if kind == "labels" else Y
    losses = label_by_label() if kind == "labels" else in_one_distiller(SWEPT_LOSSES)
    large = teacher(head, compiled=True)
    before = tiny_models.everything(large)
    distiller = Distiller(large, student(head), losses)
    # TensorFlow takes a minute to trace so many losses, here for two models.
    eager = keras.config.backend() == "tensorflow" and not RUNS_ALL_EVERYWHERE
    loss = f"{task}_crossentropy"
    distiller.compile(keras.optimizers.SGD(0.001), loss, run_eagerly=eager)

    def fit(model, epoch, weight=1.0):
        weights = np.full(16, weight, "float32")
        options = {"initial_epoch": epoch, "epochs": epoch + 1, **OPTIONS}
        return model.fit(X, y, sample_weight=weights, **options).history

    # The first makes what is made in a first call.
    fit(distiller, 0, weight=0.0)
    started = [array(v) for v in distiller.trainable_variables]
    fit(distiller, 0, weight=0.0)
    for variable, start in zip(distiller.trainable_variables, started, strict=True):
        assert np.array_equal(array(variable), start), variable.path
    assert tiny_models.same(distiller.student, student(head))
    logs = fit(distiller, 1)
    for name in losses:
        # An estimate at one token may be negative.
        is_estimate = name.startswith("sampled_reverse_kl")
        assert np.isfinite(logs[name]).all(), name
        assert logs[name][0] > 0 or (is_estimate and logs[name][0] != 0), name
    trained = [array(v) for v in distiller.trainable_variables]
    distiller.save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras")
    loaded.teacher = large
    for model in (distiller, loaded):
        fit(model, 2)
    for variable, old in zip(distiller.trainable_variables, trained, strict=True):
        assert np.isfinite(array(variable)).all()
        # A bias of the temperature's first layer may be that of a unit at 0.
        assert not np.array_equal(array(variable), old) or "bias_1" in variable.path
    for one, other in zip(state(distiller), state(loaded), strict=True):
        assert np.array_equal(one, other)
    assert tiny_models.everything(large) == before


def parts(loss):
    """The layers of a loss that have hyperparameters, and the names of these."""
    return [
        (layer, name)
        for layer in iter_layers(loss)
        if isinstance(layer, HyperparameterMixin)
        for name in layer.hyperparameter_names()
    ]


class ChangeOne(keras.callbacks.Callback):
    """In each epoch after the first, changes one further number of every loss."""

    def __init__(self, losses):
        super().__init__()
        self.losses = losses

    def on_epoch_begin(self, epoch, logs=None):
        for loss in self.losses:
            numbers = parts(loss)
            if 0 < epoch <= len(numbers):
                layer, name = numbers[epoch - 1]
                value = getattr(layer, name)
                value = value if isinstance(value, float) else 2.0
                setattr(layer, name, 0.75 * value or 0.5)


@pytest.mark.invariant(number=7)
def test_every_changed_number_takes_effect_without_compiling_again():
    names = [n for n in SWEPT_LOSSES if n != "kd_at_policy"]
    losses, references = in_one_distiller(names), in_one_distiller(names)
    # They compute on logits here.
    for name in [n for n, loss in references.items() if loss.input_gradient]:
        del losses[name], references[name]
    large, small = teacher(), student()
    distiller = Distiller(large, small, losses, task_weight=0.0)
    # The student stands still, so that every change is the number's.
    optimizer, task = keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy"
    distiller.compile(optimizer, task, jit_compile=JIT_COMPILE)
    sides = [ops.convert_to_tensor(m.predict(X, verbose=0)) for m in (small, large)]
    labels, passes, expected = ops.convert_to_tensor(Y), [], []
    change = ChangeOne(references.values())
    epochs = 1 + max(len(parts(loss)) for loss in losses.values())

    def expect(epoch, logs=None):
        for loss in references.values():
            loss.on_epoch_begin(epoch + 1, epochs)
        change.on_epoch_begin(epoch)
        expected.append(
            {
                name: compute_mean(loss, *sides, labels)
                for name, loss in references.items()
            }
        )
        weighted = [
            references[name].effective_weight * mean
            for name, mean in expected[-1].items()
        ]
        expected[-1]["loss"] = sum(weighted)
        passes.append(large.layers[0].counts["calls"])

    callbacks = [
        ChangeOne(losses.values()),
        keras.callbacks.LambdaCallback(on_epoch_end=expect),
    ]
    logs = distiller.fit(X, Y, epochs=epochs, callbacks=callbacks, **OPTIONS).history
    for name in expected[0]:
        means = [float(ops.convert_to_numpy(epoch[name])) for epoch in expected]
        assert logs[name] == pytest.approx(means, rel=2e-3, abs=1e-4), name
    if keras.config.backend() != "torch":
        assert set(passes) == {passes[0]}


@pytest.mark.single_backend
def test_all_train_in_the_distiller_of_keras():
    # Temperatures make no difference: each loss computes with its own.
    losses = [
        loss
        for loss in [*in_one_distiller(LOSSES).values(), BinaryKD()]
        if not loss.needs_labels and type(loss).call is not DistillationLoss.call
    ]
    assert len(losses) > len(LOSSES) / 2
    small = student()
    distiller = keras.distillation.Distiller(teacher(), small, losses)
    distiller.compile(keras.optimizers.SGD(0.001), "mse", run_eagerly=True)
    # The labels are the student's own outputs: their error has no gradient.
    logs = distiller.fit(X, small.predict(X, verbose=0), **OPTIONS).history
    assert np.isfinite(logs["loss"]).all()
    moved = tiny_models.numbers(small)
    assert np.isfinite(np.concatenate([w.ravel() for w in moved])).all()
    assert not tiny_models.same(moved, student())
