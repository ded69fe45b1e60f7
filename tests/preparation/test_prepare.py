"""How a Distiller is compiled that nobody compiled."""

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller, temperatures
from keras_dtkd.losses import KD
from keras_dtkd.preparation import prepare
from tests.tiny_models import (
    close,
    data,
    numbers,
    one_hot,
    same,
    sequence,
    student,
    teacher,
)

X, Y = data(16)
CE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def compiled_student(**options):
    small = student()
    optimizer = keras.optimizers.SGD(0.05, momentum=0.9)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    small.compile(optimizer, loss, **options)
    return small, optimizer, loss


def test_optimizer_loss_and_metrics_of_a_compiled_student_are_used():
    metrics = ["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(2, name="top2")]
    small, optimizer, loss = compiled_student(metrics=metrics, weighted_metrics=["acc"])
    d = Distiller(teacher(), small, KD())
    logs = d.fit(X, Y, verbose=0).history
    assert d.optimizer is optimizer and d.loss is loss
    assert {"accuracy", "top2", "acc"} <= set(logs)
    assert int(optimizer.iterations) == 1
    # The student goes on by itself, with the same optimizer state.
    small.fit(X, Y, verbose=0)
    assert int(optimizer.iterations) == 2


def test_run_eagerly_of_a_compiled_student_is_used():
    small, *_ = compiled_student(run_eagerly=True)
    d = Distiller(teacher(), small, KD())
    d.fit(X, Y, verbose=0)
    assert d.run_eagerly


def test_loss_weights_are_taken_over():
    small, *_ = compiled_student(loss_weights=0.25)
    plain = Distiller(teacher(), compiled_student()[0], KD())
    whole = plain.fit(X, Y, batch_size=16, verbose=0).history["task_loss"][0]
    d = Distiller(teacher(), small, KD())
    logs = d.fit(X, Y, batch_size=16, verbose=0).history
    assert logs["task_loss"][0] == pytest.approx(0.25 * whole, rel=1e-5)


def test_a_used_optimizer_of_the_student_continues():
    small, optimizer, _ = compiled_student()
    small.fit(X, Y, batch_size=8, verbose=0)
    Distiller(teacher(), small, KD()).fit(X, Y, batch_size=8, verbose=0)
    assert int(optimizer.iterations) == 4


def test_compiling_the_distiller_takes_precedence_over_the_student():
    small, optimizer, _ = compiled_student()
    d = Distiller(teacher(), small, KD())
    d.compile("rmsprop", keras.losses.CategoricalCrossentropy(from_logits=True))
    logs = d.fit(X, one_hot(Y), verbose=0).history
    assert isinstance(d.optimizer, keras.optimizers.RMSprop)
    assert int(optimizer.iterations) == 0
    assert "accuracy" not in logs


OUTPUTS = {
    (None, "ints"): ("sparse_categorical_crossentropy", True),
    ("softmax", "ints"): ("sparse_categorical_crossentropy", False),
    (None, "one_hot"): ("categorical_crossentropy", True),
    ("softmax", "one_hot"): ("categorical_crossentropy", False),
    ("sigmoid", "one_hot"): ("binary_crossentropy", False),
}


@pytest.mark.parametrize("case", OUTPUTS)
def test_default_cross_entropy_fits_output_kind_and_labels(case):
    activation, labels = case
    d = Distiller(teacher(activation), student(activation), KD())
    d.train_on_batch(X, Y if labels == "ints" else one_hot(Y))
    name, from_logits = OUTPUTS[case]
    assert d.loss.name == name
    assert d.loss.get_config()["from_logits"] is from_logits
    assert isinstance(d.optimizer, keras.optimizers.Adam)


def test_other_labels_get_another_loss_and_the_optimizer_stays():
    d = Distiller(teacher(), student(), KD())
    d.fit(X, Y, batch_size=8, verbose=0)
    optimizer = d.optimizer
    logs = d.fit(X, one_hot(Y), batch_size=8, verbose=0).history
    assert d.loss.name == "categorical_crossentropy"
    assert d.optimizer is optimizer and int(optimizer.iterations) == 4
    assert logs["accuracy"][0] > 0


def test_label_free_training_leaves_a_compiled_students_loss_for_later():
    small, optimizer, loss = compiled_student(metrics=["accuracy"])
    d = Distiller(teacher(), small, KD())
    logs = d.fit(X, verbose=0).history
    assert "task_loss" not in logs and d.optimizer is optimizer
    logs = d.evaluate(X, Y, verbose=0, return_dict=True)
    assert set(logs) == {"loss", "accuracy"} and d.loss is loss
    assert d.optimizer is optimizer and int(optimizer.iterations) == 1


def test_a_custom_callback_list_is_used():
    epochs = []
    callback = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: epochs.append(epoch)
    )
    d = Distiller(teacher(), student(), KD(warmup_epochs=2))
    kept = keras.callbacks.CallbackList(
        [callback], add_history=True, model=d, epochs=2, steps=1, verbose=0
    )
    d.fit(X, Y, epochs=2, callbacks=kept, verbose=0)
    assert epochs == [0, 1]


def test_a_single_callback_need_not_be_in_a_list():
    epochs = []
    callback = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: epochs.append(epoch)
    )
    Distiller(teacher(), student(), KD()).fit(X, Y, callbacks=callback, verbose=0)
    assert epochs == [0]


def test_two_uncompiled_runs_equal_one_longer_run():
    models = student(), student()
    a, b = (Distiller(teacher(), m, KD()) for m in models)
    options = {"batch_size": 8, "shuffle": False, "verbose": 0}
    a.fit(X, Y, epochs=2, **options)
    b.fit(X, Y, epochs=1, **options)
    b.fit(X, Y, initial_epoch=1, epochs=2, **options)
    assert close(*models)
    assert not np.array_equal(numbers(models[0])[0], numbers(student())[0])


@pytest.mark.graph
@pytest.mark.skipif(keras.config.backend() == "torch", reason="It traces nothing.")
@pytest.mark.parametrize("is_compiled", [True, False])
def test_a_step_is_traced_once(is_compiled):
    class Counting(Distiller):
        traces = 0

        def train_step(self, *args):
            type(self).traces += 1
            return super().train_step(*args)

    small = student()
    if is_compiled:
        # Optimizer and metrics have variables of their own.
        small.compile(keras.optimizers.Adam(), CE, metrics=["accuracy"])
    Counting(teacher(), small, KD()).fit(X, Y, epochs=2, verbose=0)
    assert Counting.traces == 1


@pytest.mark.graph
def test_batches_of_several_lengths_are_prepared_once(monkeypatch):
    calls, original = [], prepare.prepare

    def counting(*args, **kwargs):
        calls.append(1)
        return original(*args, **kwargs)

    monkeypatch.setattr(prepare, "prepare", counting)
    d = Distiller(sequence(1), sequence(2), KD())
    for length in (3, 4, 5, 3, 4, 5):
        x = np.ones((4, length), "int32")
        d.train_on_batch(x, x % 3)
    assert len(calls) == 1
    d.train_on_batch(np.ones((4, 3), "float32"), np.ones((4, 3), "int32"))
    assert len(calls) == 2


def test_an_evaluation_without_the_teacher_keeps_what_is_known_of_its_outputs():
    x, y = data(16)
    d = Distiller(teacher(), student(), KD())
    d.fit(x, y, verbose=0)
    known = d.output_specs.get().teacher
    # Of another structure, so that the models are inspected again.
    d.evaluate(x.astype("float64"), y, verbose=0)
    assert d.output_specs.get().teacher == known
    d.fit(x, y, verbose=0)


def any_length(seed):
    inputs = keras.Input((None, 4))
    kernel = keras.initializers.GlorotUniform(seed)
    outputs = keras.layers.Dense(3, kernel_initializer=kernel)(inputs)
    return keras.Model(inputs, outputs)


@pytest.mark.graph
def test_evaluation_and_training_at_several_lengths_alternate():
    d = Distiller(any_length(1), any_length(2), KD())
    batches = {
        n: (np.ones((8, n, 4), "float32"), np.zeros((8, n), "int32"))
        for n in (5, 10, 20)
    }
    d.fit(*batches[10], verbose=0)
    for n in (20, 10, 5):
        d.evaluate(*batches[n], verbose=0)
        d.fit(*batches[n], verbose=0)
        d.test_on_batch(*batches[n])
    d.evaluate_distillation = True
    assert {"kd", "loss"} <= set(d.evaluate(*batches[20], verbose=0, return_dict=True))


@pytest.mark.graph
@pytest.mark.parametrize("first", ["compiled", "uncompiled"])
@pytest.mark.parametrize("losses", [KD, lambda: KD(temperatures.Curriculum())])
def test_a_student_compiled_after_a_fit_is_followed(first, losses):
    small = compiled_student()[0] if first == "compiled" else student()
    d = Distiller(teacher(), small, losses())
    d.fit(X, Y, verbose=0)
    top2 = keras.metrics.SparseTopKCategoricalAccuracy(2, name="top2")
    small.compile(keras.optimizers.SGD(0.0), CE, metrics=[top2])
    before, optimizer = numbers(small), d.optimizer
    for _ in range(2):
        logs = d.fit(X, Y, verbose=0).history
        assert "top2" in logs
        assert same(before, small) and d.optimizer is not optimizer
    # Other labels keep what it was compiled with, and the steps that it counted.
    steps = int(d.optimizer.iterations)
    d.fit(X, verbose=0)
    assert float(d.optimizer.learning_rate) == 0.0
    assert int(d.optimizer.iterations) == steps + 1


def test_a_student_compiled_after_the_distiller_does_not_change_it():
    small = student()
    d = Distiller(teacher(), small, KD())
    d.compile(optimizer := keras.optimizers.SGD(0.1), CE)
    small.compile("adam", CE)
    d.fit(X, Y, verbose=0)
    assert d.optimizer is optimizer


@pytest.mark.graph
def test_another_compiled_loss_changes_what_the_outputs_are():
    large, small = teacher(), student()
    d = Distiller(large, small, KD())
    d.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    d.fit(X, Y, verbose=0)
    d.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=True))
    d.fit(X, one_hot(Y), verbose=0)
    again = Distiller(large, small, KD())
    again.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=True))
    again.fit(X, one_hot(Y), verbose=0, epochs=0)
    specs = [model.output_specs.get() for model in (d, again)]
    assert specs[0] == specs[1]


def test_another_teacher_is_inspected_again_for_its_losses():
    x, _ = data(16)
    d = Distiller(teacher("softmax"), student(), KD())
    d.compute_losses(keras.ops.convert_to_tensor(x))
    d.teacher = teacher()
    fresh = Distiller(teacher(), student(), KD())
    x = keras.ops.convert_to_tensor(x)
    expected = float(fresh.compute_losses(x)["kd"])
    assert float(d.compute_losses(x)["kd"]) == pytest.approx(expected, rel=1e-6)


@pytest.mark.graph
def test_the_optimizer_keeps_its_state_when_labels_come_later():
    x, y = data(16)
    small = student()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    small.compile(keras.optimizers.Adam(0.01), loss)
    d = Distiller(teacher(), small, KD(temperatures.Curriculum()))
    d.fit(x, batch_size=8, verbose=0)
    d.optimizer.learning_rate = 0.5
    d.fit(x, y, batch_size=8, verbose=0)
    assert int(d.optimizer.iterations) == 4
    assert float(d.optimizer.learning_rate) == pytest.approx(0.5)


@pytest.mark.graph
def test_compiling_between_two_batches_prepares_again():
    x, y = data(16)
    d = Distiller(teacher(), student(), KD(temperatures.Curriculum(), weight=0.0))
    d.train_on_batch(x, y)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    d.compile(keras.optimizers.SGD(0.1, weight_decay=0.5), loss)
    (free,) = d.distillation_losses["kd"].variables_without_weight_decay()
    before = keras.ops.convert_to_numpy(free)
    d.train_on_batch(x, y)
    np.testing.assert_array_equal(before, keras.ops.convert_to_numpy(free))


@pytest.mark.graph
def test_batches_with_and_without_labels_report_what_they_have():
    x, y = data(16)
    d = Distiller(teacher(), student(), KD())
    keys = [set(d.train_on_batch(x, z, return_dict=True)) for z in (y, None, y)]
    assert "accuracy" in keys[0] and keys[0] == keys[2]
    assert not {"accuracy", "task_loss"} & keys[1]
