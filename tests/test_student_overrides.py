"""Students whose class computes its own loss, metrics, predictions or steps."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd import Distiller
from keras_dtkd.losses import DKD, KD, DistillationLoss
from keras_dtkd.views import View
from tests.tensors import numpy
from tests.tiny_models import CLASSES, FEATURES, close, data, numbers, teacher

X, Y = data(32)


class OwnLoss(keras.Model):
    """Its labels are a dict, as a detector's; its loss also counts a penalty."""

    def __init__(self, seed=1):
        super().__init__(name="own_loss")
        start = keras.initializers.GlorotUniform(seed)
        self.dense = keras.layers.Dense(
            CLASSES, kernel_initializer=start, kernel_regularizer="l2"
        )
        self.size = keras.metrics.Mean(name="size")
        self.build((None, FEATURES))

    def build(self, input_shape):
        self.dense.build(input_shape)
        self.built = True

    def call(self, inputs):
        return self.dense(inputs)

    def compute_loss(self, x, y, y_pred, sample_weight=None, **kwargs):
        loss = super().compute_loss(x, y["class"], y_pred, sample_weight, **kwargs)
        return loss + 0.1 * ops.mean(y_pred**2)


class OwnMetrics(OwnLoss):
    """Its logs also hold a number that is no metric."""

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        self.size.update_state(ops.abs(y_pred))
        return {"size": self.size.result(), "twice": 2 * self.size.result()}


def compiled(model):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss)
    return model


def labels():
    return {"class": Y}


@pytest.mark.graph
def test_the_students_own_loss_is_the_task_loss():
    plain, small = compiled(OwnLoss()), compiled(OwnLoss())
    options = {"batch_size": 8, "epochs": 2, "shuffle": False, "verbose": 0}
    expected = plain.fit(X, labels(), **options).history
    logs = Distiller(teacher(), small, KD(weight=0.0)).fit(X, labels(), **options)
    assert close(plain, small)
    assert logs.history["task_loss"] == pytest.approx(expected["loss"], rel=1e-5)
    assert logs.history["loss"] == pytest.approx(expected["loss"], rel=1e-5)


def test_evaluate_gives_the_students_own_loss():
    small = compiled(OwnLoss())
    expected = small.evaluate(X, labels(), verbose=0)
    d = Distiller(teacher(), small, KD())
    assert d.evaluate(X, labels(), verbose=0) == pytest.approx(expected, rel=1e-5)


def test_task_weight_scales_the_own_loss():
    moves = []
    for weight in (1.0, 0.5):
        small = compiled(OwnLoss())
        before = numbers(small)[0]
        d = Distiller(teacher(), small, KD(weight=0.0), task_weight=weight)
        d.fit(X, labels(), batch_size=32, verbose=0)
        moves.append(numbers(small)[0] - before)
    np.testing.assert_allclose(moves[1], 0.5 * moves[0], rtol=1e-4, atol=1e-6)


@pytest.mark.graph
def test_own_metrics_are_in_the_logs_of_fit_validation_and_evaluate():
    plain, small = compiled(OwnMetrics()), compiled(OwnMetrics())
    options = {"batch_size": 8, "epochs": 2, "shuffle": False, "verbose": 0}
    options["validation_data"] = (X[:8], {"class": Y[:8]})
    expected = plain.fit(X, labels(), **options).history
    d = Distiller(teacher(), small, KD(weight=0.0))
    logs = d.fit(X, labels(), **options).history
    for name in ("size", "twice", "val_size", "val_twice"):
        assert logs[name] == pytest.approx(expected[name], rel=1e-5), name
    results = d.evaluate(X, labels(), verbose=0, return_dict=True)
    reference = plain.evaluate(X, labels(), verbose=0, return_dict=True)
    assert set(results) == {"loss", "size", "twice"}
    for name, value in reference.items():
        assert results[name] == pytest.approx(value, rel=1e-5), name


def test_an_uncompiled_student_with_its_own_loss_is_refused():
    with pytest.raises(ValueError, match=r"OwnLoss.*is not compiled.*student.compile"):
        Distiller(teacher(), OwnLoss(), KD()).fit(X, labels())


def test_without_labels_the_own_loss_is_left_out():
    d = Distiller(teacher(), OwnLoss(), KD())
    assert "task_loss" not in d.fit(X, verbose=0).history


def test_regularizers_count_once_with_labels_and_without():
    moves = []
    for y in (None, labels()):
        small = compiled(OwnLoss())
        before = numbers(small)[0]
        d = Distiller(
            teacher(), small, KD(weight=0.0), task_weight=float(y is not None)
        )
        d.fit(X, y, batch_size=32, verbose=0)
        moves.append(numbers(small)[0] - before)
    np.testing.assert_allclose(moves[0], -0.1 * 2 * 0.01 * before, rtol=1e-4, atol=1e-7)
    assert np.abs(moves[1]).max() > np.abs(moves[0]).max()


@keras.saving.register_keras_serializable("tests")
class OwnCompile(keras.Sequential):
    """Keras leaves its `compile` out when it loads it, and calls it compiled."""

    def compile(self, **options):
        super().compile(keras.optimizers.SGD(0.05), **options)


@pytest.mark.filterwarnings("ignore:`compile\\(\\)` was not called")
def test_a_student_with_its_own_compile_survives_reload(tmp_path):
    small = OwnCompile([keras.Input((FEATURES,)), keras.layers.Dense(CLASSES)])
    small.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    d = Distiller(teacher(), small, KD())
    options = {"shuffle": False, "verbose": 0}
    d.fit(X, Y, **options)
    d.save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras")
    loaded.teacher = teacher()
    assert loaded.fit(X, Y, **options).history == d.fit(X, Y, **options).history


def test_two_task_losses_are_refused():
    d = Distiller(teacher(), compiled(OwnLoss()), KD())
    d.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.raises(ValueError, match="leave `loss` out"):
        d.fit(X, labels())


def test_labels_that_the_own_loss_cannot_take_are_refused_before_the_first_step():
    small = compiled(OwnLoss())
    before = numbers(small)
    with pytest.raises(ValueError, match="OwnLoss.*fail on the first batch"):
        Distiller(teacher(), small, KD()).fit(X, {"boxes": Y})
    assert all(
        np.array_equal(a, b) for a, b in zip(before, numbers(small), strict=True)
    )


@pytest.mark.parametrize("method", ["train_step", "test_step"])
def test_a_step_of_the_students_own_is_refused(method):
    def step(self, *args):
        raise AssertionError("is not called")

    own = type("OwnStep", (OwnLoss,), {method: step})
    with pytest.raises(ValueError, match=f"`OwnStep` has a `{method}` of its own"):
        Distiller(teacher(), own(), KD())


class Decoding(OwnLoss):
    """Its predictions are classes and no logits, as a detector's are boxes."""

    def predict_step(self, *args):
        outputs = super().predict_step(*args)
        if isinstance(outputs, tuple):
            return ops.argmax(outputs[0], axis=-1), outputs[1]
        return ops.argmax(outputs, axis=-1)


@keras.saving.register_keras_serializable("tests")
class Penalized(keras.Sequential):
    """Its own loss takes plain labels."""

    def compute_loss(self, x, y, y_pred, sample_weight=None, **kwargs):
        loss = super().compute_loss(x, y, y_pred, sample_weight, **kwargs)
        return loss + 0.1 * ops.mean(y_pred**2)


def penalized(*layers):
    model = Penalized([keras.Input((FEATURES,)), keras.layers.Dense(CLASSES), *layers])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss, metrics=["accuracy"])
    return model


def test_compiled_metrics_of_a_student_with_its_own_loss_survive_reload(tmp_path):
    d = Distiller(teacher(), penalized(), KD())
    d.fit(X, Y, shuffle=False, verbose=0)
    d.save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras")
    loaded.teacher = d.teacher
    histories = [m.fit(X, Y, shuffle=False, verbose=0).history for m in (d, loaded)]
    assert histories[0] == histories[1]
    assert "accuracy" in histories[0]


def test_what_layers_add_counts_once_beside_an_own_loss_and_views():
    small = penalized(keras.layers.ActivityRegularization(l2=0.1))
    expected = small.evaluate(X, Y, verbose=0, return_dict=True)["loss"]
    losses = [KD(weight=0.0), KD(weight=0.0, view="zero", name="other")]
    zero = keras.layers.Rescaling(0.0)
    d = Distiller(teacher(), small, losses, views={"zero": zero})
    evaluated = d.evaluate(X, Y, verbose=0, return_dict=True)["loss"]
    assert evaluated == pytest.approx(expected, rel=1e-5)
    d.compile(keras.optimizers.SGD(0.0))
    trained = d.fit(X, Y, batch_size=len(X), verbose=0).history["loss"][0]
    assert trained == pytest.approx(expected, rel=1e-5)


def test_predict_decodes_as_the_student_does():
    small = compiled(Decoding())
    d = Distiller(teacher(), small, KD())
    d.fit(X, labels(), verbose=0)
    expected = small.predict(X, verbose=0)
    assert expected.shape == (len(X),)
    np.testing.assert_array_equal(d.predict(X, verbose=0), expected)


class OfBoxes(DistillationLoss):
    """Records the labels that its steps have."""

    needs_labels = True

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.labels = []

    def compute(self, step):
        self.labels.append(step.y)
        return ops.zeros_like(step.student_logits[:, 0])


class DetectorLike(OwnLoss):
    """Two outputs, and labels of neither of them."""

    def call(self, inputs):
        scores = self.dense(inputs)
        return {"scores": scores, "boxes": scores[:, :4]}

    def compute_loss(self, x, y, y_pred, sample_weight=None, **kwargs):
        target = ops.cast(y["class"], "float32") + ops.sum(y["box"], axis=-1)
        return ops.mean((target - ops.sum(y_pred["scores"], axis=-1)) ** 2)


@pytest.mark.single_backend
def test_losses_get_all_labels_of_a_student_that_computes_its_own_loss():
    y = {"class": Y, "box": np.ones((len(Y), 4), "float32")}
    loss = OfBoxes(output="scores")
    on_view = OfBoxes(output="scores", view="noisy", name="on_view")
    on_view.needs_labels = False
    small = DetectorLike()
    small.compile("sgd", run_eagerly=True)
    noisy = View(keras.layers.GaussianNoise(0.1), name="noisy")
    d = Distiller(DetectorLike(0), small, [loss, on_view], views=noisy)
    d.train_on_batch(X[:4], {name: value[:4] for name, value in y.items()})
    assert set(loss.labels[-1]) == {"class", "box"}
    np.testing.assert_array_equal(numpy(loss.labels[-1]["class"]), Y[:4])
    assert on_view.labels[-1] is None


@pytest.mark.single_backend
def test_a_loss_on_logits_needs_the_labels_of_its_output():
    y = {"class": Y, "box": np.ones((len(Y), 4), "float32")}
    small = DetectorLike()
    small.compile("sgd")
    d = Distiller(DetectorLike(0), small, DKD(output="scores"))
    with pytest.raises(ValueError, match="`dkd` needs the labels of its output"):
        d.fit(X, y, verbose=0)
