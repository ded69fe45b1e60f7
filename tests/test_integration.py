"""What users do between the lines: other orders, other data, other models."""

import sys

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd import Distiller
from keras_dtkd.callbacks import HyperparameterSchedule
from keras_dtkd.core import logits
from keras_dtkd.losses import DTKD, KD, DistillationLoss
from keras_dtkd.preparation.data_peek import peek
from keras_dtkd.preparation.output_inference import infer_output_specs
from keras_dtkd.temperatures import Temperature, TemperaturePair
from tests import oracles
from tests.tiny_models import (
    CLASSES,
    FEATURES,
    close,
    data,
    distiller,
    numbers,
    one_hot,
    same,
    student,
    teacher,
)

X, Y = data(32)
LAYERS = keras.layers


def functional(*layers, inputs=FEATURES):
    start = x = keras.Input((inputs,))
    for layer in layers:
        x = layer(x)
    return keras.Model(start, x)


HEADS = {
    "an operation": (lambda: (LAYERS.Dense(4), ops.sigmoid), "sigmoid"),
    "a function": (lambda: (LAYERS.Dense(4), keras.activations.softmax), "softmax"),
    "an activation by operation": (
        lambda: (LAYERS.Dense(4, activation=ops.sigmoid),),
        "sigmoid",
    ),
    "a cast after it": (
        lambda: (
            LAYERS.Dense(4, activation="sigmoid"),
            LAYERS.Activation("linear", dtype="float32"),
        ),
        "sigmoid",
    ),
    "a reshape after it": (
        lambda: (LAYERS.Dense(4, activation="sigmoid"), LAYERS.Reshape((2, 2))),
        "sigmoid",
    ),
    "a reshaped softmax": (
        lambda: (LAYERS.Dense(4, activation="softmax"), LAYERS.Reshape((2, 2))),
        None,
    ),
    "a nested model": (
        lambda: (
            LAYERS.Rescaling(1.0),
            functional(LAYERS.Dense(4, activation="sigmoid")),
        ),
        "sigmoid",
    ),
}


@pytest.mark.parametrize("name", HEADS)
def test_output_kind_is_inferred_through_identity_layers(name):
    layers, head = HEADS[name]
    assert logits.infer_output_kind(functional(*layers())) == head


class Own(keras.Model):
    """The kind of its outputs does not follow from its layers."""

    def __init__(self, last, classes=CLASSES):
        super().__init__()
        self.dense, self.last = LAYERS.Dense(classes), last

    def call(self, inputs):
        return self.last(self.dense(inputs))


@pytest.mark.parametrize(
    "loss, head",
    [
        (None, "sigmoid"),
        ("binary_crossentropy", "sigmoid"),
        (keras.losses.BinaryCrossentropy(from_logits=True), "binary logits"),
    ],
)
def test_subclassed_model_output_kind_from_values_and_loss(loss, head):
    small = Own(ops.sigmoid, 1)
    if loss is not None:
        small.compile("sgd", loss)
    d = Distiller(teacher("sigmoid", classes=1), small, KD())
    found = infer_output_specs(d, peek(X, Y)[0])[0].get()
    assert [outputs.output_kind for outputs in found] == [head, "sigmoid"]


class Lazy(DistillationLoss):
    """Makes its projection when it is first called."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.projection = LAYERS.Dense(CLASSES, dtype="float32")

    def call(self, student_logits, teacher_logits, labels=None):
        return ops.mean((self.projection(student_logits) - teacher_logits) ** 2, -1)


class Built(Temperature):
    """Learns a temperature that it makes in `build`."""

    def build(self, student_logits_shape, teacher_logits_shape):
        self.raw = self.add_weight(shape=(), initializer="ones", name="raw")
        self.built = True

    def call(self, student_logits, teacher_logits):
        return TemperaturePair(self.raw, self.raw, ops.square(self.raw))


@pytest.mark.parametrize("loss", [Lazy, lambda: KD(Built())])
@pytest.mark.graph
def test_weights_made_in_the_first_call_are_trained(loss):
    loss = loss()
    d = distiller(loss, keras.optimizers.Adam(0.1))
    d.fit(X, Y, batch_size=16, verbose=0)
    trained = [v for v in d.trainable_variables if "student" not in v.path]
    before = [np.array(ops.convert_to_numpy(v.value)) for v in loss.trainable_variables]
    assert trained and before
    d.fit(X, Y, batch_size=16, verbose=0)
    after = [ops.convert_to_numpy(v.value) for v in loss.trainable_variables]
    assert not all(map(np.array_equal, before, after))


@pytest.mark.invariant(number=3)
def test_masked_positions_of_multilabel_outputs_have_no_effect():
    tokens = np.array([[1, 2, 0], [3, 0, 0]])
    models = []
    for seed in (1, 2):
        start = keras.initializers.RandomNormal(stddev=1.0, seed=seed)
        models.append(
            keras.Sequential(
                [
                    keras.Input((None,), dtype="int32"),
                    LAYERS.Embedding(
                        5, 4, mask_zero=True, embeddings_initializer=start
                    ),
                    LAYERS.Dense(3, activation="sigmoid", kernel_initializer=start),
                ]
            )
        )
    large, small = models
    d = Distiller(large, small, KD())
    logs = d.fit(tokens, batch_size=2, verbose=0).history
    kept, pairs = tokens != 0, []
    for model in (large, d.student):
        z = np.log(p := np.float64(model.predict(tokens, verbose=0))) - np.log1p(-p)
        pairs.append(np.stack([-z / 2, z / 2], -1)[kept])
    # The loss was taken before the one step that followed it.
    fresh = Distiller(large, small, KD()).compute_losses(tokens)["kd"]
    expected = oracles.kd(pairs[1], pairs[0]).mean()
    assert float(ops.convert_to_numpy(fresh)) == pytest.approx(expected, rel=1e-4)
    assert np.isfinite(logs["kd"]).all()


@pytest.mark.single_backend
@pytest.mark.invariant(number=7)
@pytest.mark.graph
def test_the_smallest_temperature_may_be_scheduled():
    d = distiller(DTKD(), keras.optimizers.SGD(0.0), student=tiny())
    least = HyperparameterSchedule(
        "dtkd.temperature.min_temperature", lambda epoch: (0.1, 1.0, 2.0)[epoch]
    )
    logs = d.fit(X, Y, batch_size=32, epochs=3, verbose=0, callbacks=[least]).history
    assert logs["student_temperature"] == pytest.approx([0.1, 1.0, 2.0], rel=1e-4)


def tiny():
    small = student()
    small.set_weights([w * 1e-4 for w in small.get_weights()])
    return small


@pytest.mark.invariant(number=8)
def test_a_temperature_scheduled_below_the_minimum_can_be_saved():
    loss = DTKD(min_temperature=0.1)
    loss.temperature = 0.05
    config = keras.saving.serialize_keras_object(loss)
    loaded = keras.saving.deserialize_keras_object(config)
    assert float(loaded.temperature.temperature) == pytest.approx(0.05)
    assert loaded.temperature.min_temperature == 0.1


@pytest.mark.invariant(number=8)
@pytest.mark.parametrize("compiled", [False, True])
def test_a_distiller_saved_before_it_trains_can_be_trained(compiled, tmp_path):
    small, large = student(), teacher()
    if compiled:
        small.compile("sgd", "mse")
    Distiller(large, small).save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras")
    loaded.teacher = large
    target = one_hot(Y) if compiled else Y
    assert "task_loss" in loaded.fit(X, target, verbose=0).history
    Distiller(large, student()).load_weights(tmp_path / "d.keras")


@pytest.mark.single_backend
@pytest.mark.invariant(number=8)
def test_compile_origin_survives_reload(tmp_path):
    large, runs = teacher(), []
    for name in ("unbroken", "broken"):
        keras.utils.set_random_seed(0)
        d = Distiller(large, student(), KD())
        d.fit(X, verbose=0, shuffle=False)
        if name == "broken":
            d.save(tmp_path / "d.keras")
            d = keras.models.load_model(tmp_path / "d.keras")
            d.teacher = large
        logs = d.fit(X, Y, verbose=0, shuffle=False).history
        assert {"task_loss", "accuracy"} <= set(logs)
        d.fit(X, one_hot(Y), verbose=0, shuffle=False)
        runs.append(numbers(d.student))
    assert same(*runs)


def test_a_later_compile_takes_precedence(tmp_path):
    large, small = teacher(), student()
    small.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    d = Distiller(large, small)
    d.fit(X, Y, verbose=0)
    d.compile(keras.optimizers.Adam(0.5), "mse", metrics=["mae"])
    logs = d.fit(X, one_hot(Y), verbose=0).history
    assert d.loss == "mse" and "mae" in logs
    d.save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras")
    assert loaded.loss == "mse" and type(loaded.optimizer).__name__ == "Adam"


def test_a_callback_may_evaluate_other_labels():
    d = Distiller(teacher(), student())
    seen = []

    def evaluate(epoch, logs):
        y = Y.astype("int32") if epoch else one_hot(Y).argmax(-1)
        seen.append(d.evaluate(X, y, verbose=0))

    callback = keras.callbacks.LambdaCallback(on_epoch_end=evaluate)
    d.fit(X, Y.astype("int64"), epochs=3, callbacks=[callback], verbose=0)
    assert len(seen) == 3


@pytest.mark.single_backend
def test_other_labels_keep_the_compile_options():
    d = Distiller(teacher(), student())
    d.fit(X, Y, verbose=0)
    d.run_eagerly = True
    d.fit(X, one_hot(Y), verbose=0)
    assert d.run_eagerly


def half_right(y_true, y_pred):
    return 0.5 * ops.ones_like(y_pred[..., 0])


@pytest.mark.single_backend
def test_a_custom_metric_of_a_notebook_is_used(monkeypatch):
    main = sys.modules["__main__"]
    monkeypatch.setattr(half_right, "__module__", "__main__")
    monkeypatch.setattr(main, "half_right", half_right, False)
    # A notebook's variables may have the names of Keras's own metrics.
    monkeypatch.setattr(main, "accuracy", 0.5, False)
    small = student()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    small.compile("sgd", loss, metrics=["accuracy", half_right])
    logs = Distiller(teacher(), small).fit(X, Y, verbose=0).history
    assert logs["half_right"] == pytest.approx([0.5])


@pytest.mark.parametrize(
    "how",
    [
        {"validation_split": 0.25},
        {"validation_data": (X,)},
        {"validation_data": (X, None)},
    ],
)
def test_validation_without_labels_raises(how):
    with pytest.raises(ValueError, match="evaluate_distillation=True"):
        Distiller(teacher(), student()).fit(X, verbose=0, **how)


def test_a_loss_that_is_not_computed_is_not_logged():
    d = Distiller(teacher(), student())
    d.compile("sgd", metrics=["mae"])
    d.fit(X, one_hot(Y), verbose=0)
    assert set(d.evaluate(X, one_hot(Y), verbose=0, return_dict=True)) == {"mae"}


def test_labels_without_a_compiled_loss_warn():
    d = Distiller(teacher(), student())
    d.compile("sgd")
    with pytest.warns(UserWarning, match="without a loss"):
        d.fit(X, Y, verbose=0)


@pytest.mark.invariant(number=9)
def test_unbuilt_shared_layers_raise():
    shared = LAYERS.Dense(CLASSES)
    with pytest.raises(ValueError, match="share variables"):
        Distiller(keras.Sequential([shared]), keras.Sequential([shared])).fit(
            X, Y, verbose=0
        )


@pytest.mark.invariant(number=9)
def test_layers_shared_and_unfrozen_raise():
    shared = LAYERS.Dense(FEATURES)
    large, small = (functional(shared, LAYERS.Dense(CLASSES)) for _ in range(2))
    shared.trainable = False
    d = Distiller(large, small)
    shared.trainable = True
    with pytest.raises(ValueError, match="share variables"):
        d.fit(X, Y, verbose=0)


CE = keras.losses.SparseCategoricalCrossentropy
WRONG = {
    "a named loss": (CE(from_logits=True, name="ce"), np.where(Y == 0, 7, Y), "0 to 3"),
    "a listed loss": ([CE(from_logits=True)], np.where(Y == 0, 7, Y), "0 to 3"),
    "too wide": ("categorical_crossentropy", one_hot(Y, 5), "one-hot"),
    "integers": ("categorical_crossentropy", Y, "sparse cross-entropy"),
    "no columns": ("binary_crossentropy", Y, "a column for each output"),
}


@pytest.mark.invariant(number=10)
@pytest.mark.parametrize("name", WRONG)
def test_labels_that_do_not_fit_the_loss_raise(name):
    loss, y, message = WRONG[name]
    d = Distiller(teacher(), student())
    d.compile("sgd", loss)
    with pytest.raises(ValueError, match=message):
        d.fit(X, y, verbose=0)


@pytest.mark.invariant(number=10)
def test_validation_labels_are_checked_whole():
    y = Y.copy()
    y[-1] = 9
    with pytest.raises(ValueError, match="labels of the validation data from 0 to 9"):
        Distiller(teacher(), student()).fit(X, Y, validation_data=(X, y), verbose=0)


@pytest.mark.invariant(number=10)
def test_binary_labels_must_be_0_or_1():
    with pytest.raises(ValueError, match=r"no \(0\) and yes \(1\)"):
        Distiller(teacher(classes=1), student(classes=1)).fit(X, Y, verbose=0)


@pytest.mark.invariant(number=10)
def test_fewer_labels_than_samples_raise():
    with pytest.raises(ValueError, match="32 inputs and 31 labels"):
        Distiller(teacher(), student()).fit(X, Y[:-1], verbose=0)


@pytest.mark.invariant(number=10)
def test_an_unknown_output_of_single_output_models_raises():
    with pytest.raises(ValueError, match="no output 'zz'"):
        Distiller(teacher(), student(), output="zz").fit(X, Y, verbose=0)


@pytest.mark.invariant(number=10)
def test_layers_of_an_ensemble_raise():
    loss = keras.distillation.FeatureDistillation(
        loss="mse", teacher_layer_name="dense", student_layer_name="dense"
    )
    with pytest.raises(ValueError, match="no single model"):
        Distiller([teacher(), teacher()], student(), loss).fit(X, Y, verbose=0)


def masked_teacher(value):
    mask = np.array([0, 0, 0, value], "float32")
    return functional(LAYERS.Dense(CLASSES), lambda z: z + mask)


def test_a_teacher_may_exclude_a_class():
    d = distiller(KD(), teacher=masked_teacher(-np.inf))
    assert np.isfinite(d.fit(X, Y, verbose=0).history["kd"]).all()


def test_a_teacher_with_infinite_logits_raises():
    with pytest.raises(ValueError, match="NaN or infinity"):
        d = distiller(KD(), teacher=masked_teacher(np.inf))
        d.fit(X, Y, verbose=0)


def test_a_run_sees_the_teachers_present_weights(tmp_path):
    large = teacher()
    d = distiller(KD(), teacher=large)
    d.fit(X, Y, verbose=0)
    path = tmp_path / "d.weights.h5"
    d.save_weights(path)
    large.set_weights([2 * w for w in large.get_weights()])
    with pytest.raises(ValueError, match="another teacher"):
        d.load_weights(path)


@pytest.mark.graph
def test_evaluate_distillation_can_be_enabled_later():
    d = distiller(KD())
    d.fit(X, Y, verbose=0)
    assert "kd" not in d.evaluate(X, Y, verbose=0, return_dict=True)
    d.evaluate_distillation = True
    assert "kd" in d.evaluate(X, Y, verbose=0, return_dict=True)


@pytest.mark.invariant(number=3)
def test_weights_count_without_labels_too():
    runs = {}
    weights = np.random.default_rng(0).uniform(size=32).astype("float32")
    for name, value in {"none": 0 * weights, "some": weights}.items():
        small = student()
        d = distiller(KD(), keras.optimizers.SGD(0.1), student=small)
        options = {"batch_size": 8, "shuffle": False, "verbose": 0}
        d.fit(X, sample_weight=value, **options)
        runs[name] = numbers(small)
    assert same(runs["none"], student())
    labelled = student()
    d = distiller(KD(), keras.optimizers.SGD(0.1), student=labelled, task_weight=0.0)
    d.fit(X, Y, sample_weight=weights, **options)
    assert close(runs["some"], labelled)


@pytest.mark.graph
def test_a_custom_teacher_always_gets_tensors():
    kinds = set()

    class Linear:
        variables = []

        def outputs(self, x, sample_ids=None):
            kinds.add(isinstance(x, np.ndarray))
            return x[:, :CLASSES]

        def fingerprint(self):
            return "linear"

    distiller(KD(), teacher=Linear()).fit(X, Y, verbose=0)
    assert kinds == {False}


@pytest.mark.invariant(number=8)
@pytest.mark.graph
def test_numbers_are_those_of_the_weights_that_were_restored():
    d = distiller(KD(), keras.optimizers.SGD(1.0))
    stop = keras.callbacks.EarlyStopping(
        monitor="loss", mode="max", patience=2, restore_best_weights=True
    )
    grow = HyperparameterSchedule(
        "kd.weight", lambda epoch: (3.0, 1.0, 0.5, 0.2)[epoch]
    )
    d.fit(X, Y, epochs=4, callbacks=[grow, stop], verbose=0)
    loss = d.distillation_losses["kd"]
    assert (
        loss.weight
        == 3.0
        == float(ops.convert_to_numpy(loss.hyperparameter("weight").value))
    )


def test_after_learning_a_temperature_the_student_trains_on_its_own():
    small = student()
    small.compile("adam", CE(from_logits=True))
    Distiller(teacher(), small, KD(Built())).fit(X, Y, verbose=0)
    small.fit(X, Y, verbose=0)


@pytest.mark.single_backend
def test_labels_may_be_named_like_the_only_output():
    inputs = keras.Input((FEATURES,))
    small = keras.Model(inputs, {"label": LAYERS.Dense(CLASSES, name="label")(inputs)})
    logs = Distiller(teacher(), small).fit(X, {"label": Y}, verbose=0).history
    assert "task_loss" in logs


@pytest.mark.graph
def test_train_on_batch_prepares_each_batch_structure_once():
    large = teacher()
    d = distiller(KD(), teacher=large)
    d.run_eagerly = True
    d.train_on_batch(X, Y)
    before = large.layers[0].counts["calls"]
    d.train_on_batch(X, Y)
    assert large.layers[0].counts["calls"] == before + 1
