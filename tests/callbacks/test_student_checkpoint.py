"""The student alone is kept while it trains, and given away afterwards."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd import Distiller
from keras_dtkd.callbacks import StudentCheckpoint
from keras_dtkd.losses import KD
from keras_dtkd.temperatures import Curriculum
from tests.tiny_models import close, data, numbers, same, student, teacher

pytestmark = pytest.mark.graph
X, Y = data(32)
HELD = data(16, seed=3)


def fit(callbacks, epochs=3):
    small = student(norm=True)
    small.compile(
        keras.optimizers.Adam(0.05),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    d = Distiller(teacher(), small, KD(Curriculum()))
    logs = d.fit(
        X, Y, epochs=epochs, validation_data=HELD, callbacks=callbacks, verbose=0
    )
    return d, logs.history


@pytest.mark.parametrize("weights_only", [False, True])
def test_the_file_is_the_students_own(tmp_path, weights_only):
    kept = []
    path = tmp_path / ("best.weights.h5" if weights_only else "best.keras")
    best = StudentCheckpoint(
        path,
        monitor="val_loss",
        save_best_only=True,
        save_weights_only=weights_only,
    )
    note = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda *_: kept.append(numbers(d_student()))
    )

    def d_student():
        return note.model.student

    d, logs = fit([best, note])
    if weights_only:
        loaded = student(norm=True)
        loaded.load_weights(path)
    else:
        loaded = keras.saving.load_model(path)
        assert type(loaded) is keras.Sequential and loaded.compiled
    assert same(kept[int(np.argmin(logs["val_loss"]))], loaded)


@pytest.mark.parametrize("compiled", [True, False])
def test_which_way_a_metric_is_better_is_known(tmp_path, compiled):
    path, kept = tmp_path / "best.keras", []
    small = student()
    if compiled:
        small.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    best = StudentCheckpoint(path, monitor="val_accuracy", save_best_only=True)

    class Keep(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            kept.append(numbers(self.model.student))

    d = Distiller(teacher(), small, KD(), from_logits=True)
    options = {"validation_data": HELD, "callbacks": [best, Keep()], "verbose": 0}
    logs = d.fit(X, Y, epochs=4, **options).history["val_accuracy"]
    assert same(kept[int(np.argmax(logs))], keras.saving.load_model(path))


def test_it_saves_in_the_middle_of_an_epoch_too(tmp_path):
    path = tmp_path / "last.weights.h5"
    each = StudentCheckpoint(path, save_weights_only=True, save_freq=1)
    d, _ = fit([each], epochs=1)
    loaded = student(norm=True)
    loaded.load_weights(path)
    assert same(d.student, loaded)


def test_beside_a_plain_model_it_is_keras_own(tmp_path):
    small = student()
    small.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    small.fit(X, Y, callbacks=[StudentCheckpoint(tmp_path / "s.keras")], verbose=0)
    assert same(small, keras.saving.load_model(tmp_path / "s.keras"))


def test_what_is_exported_is_the_student(tmp_path):
    d, _ = fit([], epochs=1)
    with pytest.MonkeyPatch.context() as patch:
        given = []
        patch.setattr(type(d.student), "export", lambda self, *a, **k: given.append(a))
        d.export(tmp_path / "model", format="tf_saved_model")
    assert given == [(tmp_path / "model",)]


def test_what_is_quantized_is_the_student():
    d, _ = fit([], epochs=1)
    x = ops.convert_to_tensor(X)
    before = ops.convert_to_numpy(d.student(x))
    d.quantize("int8")
    assert "int8" in {str(w.dtype) for w in d.student.weights}
    assert close([before], [ops.convert_to_numpy(d.student(x))], 0.2)
    # The compiled functions follow.
    assert close([d.predict(X, verbose=0)], [ops.convert_to_numpy(d.student(x))], 1e-4)
