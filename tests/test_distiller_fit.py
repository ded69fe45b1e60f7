"""What one training step does, and what it does not do."""

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller
from keras_dtkd.losses import DTKD, KD
from tests.tiny_models import (
    CLASSES,
    FEATURES,
    Counting,
    close,
    data,
    distiller,
    everything,
    numbers,
    one_hot,
    same,
    sequence,
    student,
    teacher,
)


class PassesAStep(keras.callbacks.Callback):
    """How often `Counting` layers ran in the training steps of each epoch."""

    def __init__(self, **counting):
        super().__init__()
        self.counting = counting
        self.passes = []

    def on_epoch_begin(self, epoch, logs=None):
        self.before = {k: v.counts["calls"] for k, v in self.counting.items()}

    def on_epoch_end(self, epoch, logs=None):
        self.passes.append(
            {k: v.counts["calls"] - self.before[k] for k, v in self.counting.items()}
        )


def counted_student():
    counting = Counting()
    model = student(norm=True)
    return keras.Sequential([keras.Input((FEATURES,)), counting, model]), counting


@pytest.mark.invariant(number=1)
def test_a_step_is_one_pass_of_the_student_and_one_of_the_teacher():
    x, y = data(24)
    small, counting = counted_student()
    large = teacher()
    passes = PassesAStep(student=counting, teacher=large.layers[0])
    d = Distiller(large, small, KD())
    d.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
    d.fit(x, y, batch_size=8, epochs=2, callbacks=[passes], verbose=0)
    assert passes.passes == [{"student": 3, "teacher": 3}] * 2


@pytest.mark.invariant(number=1)
def test_evaluate_and_predict_do_not_run_the_teacher():
    x, y = data(16)
    large = teacher()
    d = distiller(teacher=large)
    d.run_eagerly = True
    d.fit(x, y, verbose=0)
    before = large.layers[0].counts["calls"]
    d.evaluate(x, y, verbose=0)
    d.predict(x, verbose=0)
    d.test_on_batch(x, y)
    assert large.layers[0].counts["calls"] == before


@pytest.mark.graph
def test_dropout_drops_in_the_student_while_it_trains():
    x, y = data(16)
    kept, dropped = student(), student(dropout=0.9)
    for small in (kept, dropped):
        distiller(student=small).fit(x, y, batch_size=16, verbose=0)
    assert not np.allclose(numbers(kept)[0], numbers(dropped)[0])


@pytest.mark.invariant(number=1)
@pytest.mark.graph
def test_batch_normalization_moves_once_a_step_as_in_a_plain_fit():
    x, y = data(16)
    plain = student(norm=True)
    plain.compile("sgd", "mse")
    plain.fit(x, one_hot(y), batch_size=16, verbose=0)
    small = student(norm=True)
    distiller(DTKD(), student=small).fit(x, y, batch_size=16, verbose=0)
    moved = [numbers(m.layers[1])[2:] for m in (plain, small)]
    assert close(*moved)
    assert np.abs(moved[0][0]).max() > 0


@pytest.mark.graph
def test_without_weight_on_the_teacher_it_is_a_plain_fit():
    x, y = data(20)
    models = student(norm=True), student(norm=True)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    models[0].compile(keras.optimizers.SGD(0.1), loss)
    plain = models[0].fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    ours = distiller(KD(weight=0.0), keras.optimizers.SGD(0.1), student=models[1])
    history = ours.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    assert close(*models)
    assert np.allclose(history.history["loss"], plain.history["loss"], rtol=1e-5)
    assert np.allclose(history.history["task_loss"], plain.history["loss"], rtol=1e-5)


def one_epoch(x, y, sample_weight=None, losses=None, batch_size=None, **kwargs):
    small = student()
    d = distiller(losses, keras.optimizers.SGD(0.1), student=small, **kwargs)
    d.fit(
        x,
        y,
        sample_weight=sample_weight,
        batch_size=batch_size or len(x),
        shuffle=False,
        verbose=0,
    )
    return numbers(small)


@pytest.mark.invariant(number=3)
@pytest.mark.parametrize("task_weight", [1.0, 0.0])
def test_zero_sample_weights_change_no_weight(task_weight):
    x, y = data(16)
    moved = one_epoch(x, y, np.zeros(16), DTKD(), task_weight=task_weight)
    assert same(moved, student())
    # A single sample that counts does move them.
    one = np.eye(16)[0]
    assert not same(one_epoch(x, y, one, KD(), task_weight=task_weight), student())


@pytest.mark.invariant(number=3)
@pytest.mark.parametrize("task_weight", [1.0, 0.0])
def test_a_sample_of_weight_two_is_that_sample_twice(task_weight):
    x, y = data(8)
    doubled = np.concatenate([x, x[:2]]), np.concatenate([y, y[:2]])
    # Keras divides by the number of samples: ten of weight 1, eight of 1 or 2.
    weights = np.where(np.arange(8) < 2, 2.0, 1.0) * 8 / 10
    once = one_epoch(x, y, weights.astype("float32"), task_weight=task_weight)
    assert close(once, one_epoch(*doubled, task_weight=task_weight))
    assert not close(once, one_epoch(x, y, task_weight=task_weight))


def test_class_weight_reaches_task_and_distillation():
    x, y = data(16)
    small = student()
    d = distiller(student=small, optimizer=keras.optimizers.SGD(0.1))
    chosen = dict.fromkeys(range(CLASSES), 0.0) | {0: 1.0, 1: 2.0}
    d.fit(x, y, class_weight=chosen, batch_size=16, shuffle=False, verbose=0)
    per_sample = np.array([chosen[c] for c in y], "float32")
    assert close(numbers(small), one_epoch(x, y, per_sample))
    assert not close(numbers(small), one_epoch(x, y))


def sequence_run(x, y, losses, **kwargs):
    small = sequence()
    d = Distiller(sequence(11, classes=3), small, losses, **kwargs)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    d.compile(keras.optimizers.SGD(0.5), loss)
    history = d.fit(x, y, batch_size=len(x), shuffle=False, verbose=0).history
    return numbers(small), history


@pytest.mark.invariant(number=3)
@pytest.mark.parametrize("losses", [KD, DTKD])
@pytest.mark.graph
def test_masked_positions_have_no_effect(losses):
    x = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    y = np.array([[0, 1, 2, 0], [1, 2, 0, 1]])
    padded = np.pad(x, ((0, 0), (0, 3))), np.pad(y, ((0, 0), (0, 3)))
    short, short_logs = sequence_run(x, y, losses())
    long, long_logs = sequence_run(*padded, losses())
    assert close(short, long, 1e-5)
    for name, value in short_logs.items():
        assert np.allclose(value, long_logs[name], rtol=1e-5), name


@pytest.mark.invariant(number=3)
def test_without_a_mask_all_positions_have_an_effect():
    # So that the test above can fail.
    x = np.array([[1, 2, 0, 0], [5, 6, 0, 0]])
    runs = []
    for mask_zero in (True, False):
        small = sequence(mask_zero=mask_zero)
        d = Distiller(sequence(11), small, KD())
        d.compile(keras.optimizers.SGD(0.5))
        d.fit(x, verbose=0)
        runs.append(numbers(small))
    assert not close(*runs)


@pytest.mark.invariant(number=3)
def test_weights_of_positions_reach_task_and_distillation():
    x = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
    y = np.array([[0, 1, 2, 0], [1, 2, 0, 1]])
    runs = []
    for last in (4, 8):
        weights = np.array([[1, 1, 1, 0], [1, 1, 1, 1]], "float32")
        other = x.copy()
        other[0, 3] = last
        small = sequence()
        d = Distiller(sequence(11), small, KD())
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        d.compile(keras.optimizers.SGD(0.5), loss)
        d.fit(other, y, sample_weight=weights, batch_size=2, verbose=0)
        runs.append(numbers(small))
    assert close(*runs)


@pytest.mark.invariant(number=9)
@pytest.mark.graph
def test_the_teacher_is_unchanged_bit_for_bit():
    x, y = data(16)
    large = teacher(compiled=True)
    before = everything(large)
    d = Distiller(large, student(norm=True), KD(), evaluate_distillation=True)
    d.fit(x, y, batch_size=8, epochs=2, validation_data=(x, y), verbose=0)
    d.evaluate(x, y, verbose=0)
    d.predict(x, verbose=0)
    d.train_on_batch(x, y)
    d.test_on_batch(x, y)
    assert everything(large) == before
    assert d.teacher is large


@pytest.mark.invariant(number=9)
def test_a_compiled_teacher_can_still_be_trained():
    x, y = data(16)
    large = teacher(compiled=True)
    distiller(teacher=large).fit(x, y, verbose=0)
    before = numbers(large)
    large.train_on_batch(x, one_hot(y))
    assert not same(before, numbers(large))


# The total.


@pytest.mark.parametrize("task_weight", [0.0, 0.5])
def test_loss_is_the_documented_sum(task_weight):
    x, y = data(20)
    small = student()
    small.layers[0].kernel.regularizer = keras.regularizers.L2(0.01)
    losses = {"a": KD(weight=0.3, warmup_epochs=4), "b": DTKD(rule="std", weight=2.0)}
    d = distiller(
        losses, keras.optimizers.SGD(0.0), student=small, task_weight=task_weight
    )
    logs = d.fit(x, y, epochs=3, batch_size=8, verbose=0).history
    regularizer = 0.01 * float((numbers(small)[0] ** 2).sum())
    for epoch in range(3):
        expected = (
            task_weight * logs["task_loss"][epoch]
            + 0.3 * (epoch + 1) / 4 * logs["a"][epoch]
            + 2.0 * logs["b"][epoch]
            + regularizer
        )
        assert logs["loss"][epoch] == pytest.approx(expected, rel=1e-4)


def test_a_short_last_batch_counts_by_its_samples():
    x, y = data(20)
    logs = []
    for batch_size in (20, 8):
        d = distiller(DTKD(rule="std"), keras.optimizers.SGD(0.0))
        d.compile(d.optimizer, d.loss, metrics=["accuracy"])
        logs.append(
            d.fit(x, y, batch_size=batch_size, shuffle=False, verbose=0).history
        )
    for name, value in logs[0].items():
        assert value == pytest.approx(logs[1][name], rel=1e-4), name


# What may be fitted.


@pytest.mark.graph
def test_training_brings_the_student_closer_to_the_teacher():
    x, y = data(64)
    small = student()
    small.compile(keras.optimizers.Adam(0.05))
    logs = (
        Distiller(teacher(), small)
        .fit(x, y, epochs=15, batch_size=16, verbose=0)
        .history
    )
    assert logs["dtkd"][-1] < 0.5 * logs["dtkd"][0]
    assert logs["agreement"][-1] > 0.8


@pytest.mark.parametrize("student_head", [None, "softmax"])
@pytest.mark.parametrize("teacher_head", [None, "softmax"])
@pytest.mark.parametrize("encode", [lambda y: y, one_hot], ids=["ints", "one_hot"])
def test_label_format_and_output_kind_do_not_change_the_training(
    student_head, teacher_head, encode
):
    x, y = data(16)
    reference = student()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    expected = distiller(KD(), None, student=reference)
    expected.compile("adam", loss, metrics=["accuracy"])
    expected = expected.fit(x, y, verbose=0, shuffle=False).history
    small = student(student_head)
    d = Distiller(teacher(teacher_head), small, KD())
    logs = d.fit(x, encode(y), verbose=0, shuffle=False).history
    assert close(small, reference, 1e-4)
    assert logs.keys() == expected.keys()
    for name, value in expected.items():
        assert value == pytest.approx(logs[name], rel=1e-3, abs=1e-5), name


@pytest.mark.parametrize("head", [None, "sigmoid"])
def test_a_single_output_is_binary(head):
    x, y = data(32, classes=2)
    # The teacher is sure of class 1 where the second feature is the greater.
    large = keras.Sequential([keras.Input((FEATURES,)), keras.layers.Dense(1, head)])
    kernel = np.zeros((FEATURES, 1), "float32")
    kernel[:2, 0] = -3.0, 3.0
    large.set_weights([kernel, np.zeros(1)])
    d = Distiller(large, student(head, classes=1), KD())
    d.fit(x, y, verbose=0)
    d.optimizer.learning_rate = 0.05
    logs = d.fit(x, y, epochs=8, batch_size=8, verbose=0).history
    assert logs["kd"][-1] < 0.5 * logs["kd"][0]
    assert logs["agreement"][-1] > 0.8
    accuracy = d.evaluate(x, y, verbose=0, return_dict=True)["accuracy"]
    predicted = d.predict(x, verbose=0)[:, 0] > (0.5 if head else 0.0)
    assert accuracy == pytest.approx(np.mean(predicted == y))


def test_sigmoid_outputs_are_distilled_label_by_label():
    x, _ = data(32)
    y = (x[:, :CLASSES] > 0).astype("float32")
    d = Distiller(teacher("sigmoid"), student("sigmoid"), KD())
    d.fit(x, y, verbose=0)
    d.optimizer.learning_rate = 0.05
    logs = d.fit(x, y, epochs=8, batch_size=8, verbose=0).history
    assert logs["kd"][-1] < 0.5 * logs["kd"][0]
    assert logs["accuracy"][-1] > 0.8


def test_without_labels_the_teacher_alone_teaches():
    x, y = data(32)
    small = student()
    d = Distiller(teacher(), small, KD())
    logs = d.fit(x, epochs=2, shuffle=False, verbose=0).history
    assert "task_loss" not in logs and "accuracy" not in logs
    assert logs["loss"] == pytest.approx(logs["kd"], rel=1e-5)
    reference = student()
    other = distiller(KD(), "adam", student=reference, task_weight=0.0)
    other.fit(x, y, epochs=2, shuffle=False, verbose=0)
    assert close(small, reference)


def test_after_label_free_training_evaluate_measures_labels():
    x, y = data(32)
    d = Distiller(teacher(), student(), KD())
    d.fit(x, verbose=0)
    iterations = int(d.optimizer.iterations)
    logs = d.evaluate(x, y, verbose=0, return_dict=True)
    assert set(logs) == {"loss", "accuracy"} and logs["loss"] > 0
    predicted = d.predict(x, verbose=0)
    assert logs["accuracy"] == pytest.approx(np.mean(predicted.argmax(-1) == y))
    # And the optimizer's state is not lost by it.
    assert int(d.optimizer.iterations) == iterations
    assert "task_loss" in d.fit(x, y, verbose=0).history


@pytest.mark.graph
def test_train_on_batch_is_a_step_of_fit():
    x, y = data(16)
    models = student(), student()
    a, b = (distiller(student=m) for m in models)
    a.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    for rows in (slice(0, 8), slice(8, 16)):
        logs = b.train_on_batch(x[rows], y[rows], return_dict=True)
    assert close(*models)
    assert {"loss", "task_loss", "kd"} <= set(logs)


def test_positional_arguments_are_looked_at_as_named_ones():
    x, y = data(8)
    bad, d = -np.ones(8), distiller()
    for run in (
        lambda: d.fit(x, y, 4, 1, 0, None, 0.0, None, False, None, bad),
        lambda: d.train_on_batch(x, y, bad),
    ):
        with pytest.raises(ValueError, match="a weight of -1"):
            run()
    with pytest.raises(ValueError, match="2 validation labels"):
        d.fit(x, y, 4, 1, 0, None, 0.0, (x[:3], y[:2]))
    with pytest.raises(ValueError, match="Give weights as `sample_weight=`"):
        d.fit(x, y, np.ones(8))
    with pytest.raises(TypeError, match="multiple values"):
        d.evaluate(x, y, 4, batch_size=4)
    weights = np.arange(8.0)
    expected = d.evaluate(x, y, sample_weight=weights, verbose=0)
    assert d.evaluate(x, y, 8, 0, weights) == pytest.approx(expected)


def test_calls_and_predictions_are_the_students():
    x, _ = data(8)
    small = student()
    d = distiller(student=small)
    assert np.allclose(d.predict(x, verbose=0), small.predict(x, verbose=0))
    assert np.allclose(
        keras.ops.convert_to_numpy(d(x)), small.predict(x, verbose=0), atol=1e-6
    )
    assert np.allclose(d.predict_on_batch(x), small.predict(x, verbose=0))
    assert d.student is small
    assert (
        len(d.get_weights())
        == len(small.get_weights())
        + sum(len(loss.weights) for loss in d.distillation_losses.values())
        + 1
    )
