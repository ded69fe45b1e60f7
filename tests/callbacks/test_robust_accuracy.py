"""The log of accuracy under attack."""

import csv

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller
from keras_dtkd.attacks import fgsm, robust_accuracy
from keras_dtkd.callbacks import RobustAccuracy
from keras_dtkd.losses import KD
from tests.attacks import trained
from tests.attacks.oracle import CLASSES, network
from tests.tiny_models import Counting, close, everything, numbers

X, Y = trained.data(64)
NAME = "val_robust_accuracy"


def compiled(model):
    model.compile(
        keras.optimizers.SGD(0.05),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


def fitted(*callbacks, model=None, epochs=3, verbose=0, **options):
    model = model or compiled(network())
    history = model.fit(
        X,
        Y,
        batch_size=16,
        epochs=epochs,
        shuffle=False,
        verbose=verbose,
        callbacks=list(callbacks),
        **options,
    )
    return model, history.history


def small(**options):
    return RobustAccuracy(
        X, Y, 0.02, **{"steps": 2, "seed": 0, "batch_size": 48, **options}
    )


def test_the_log_is_the_robust_accuracy_of_the_model_after_the_epoch():
    seen = []
    after = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(
            robust_accuracy(model, X, Y, 0.02, steps=2, seed=0).robust
        )
    )
    model = compiled(network())
    fitted(small(), after, model=model)
    found = model.history.history[NAME]
    assert found == seen and len(set(found)) > 1


def test_training_goes_on_as_without_it():
    one, _ = fitted()
    other, _ = fitted(small())
    assert close(numbers(one), numbers(other), 1e-7)


def test_within_a_distiller_it_is_the_students():
    teacher = trained.model()
    before = everything(teacher)
    d = Distiller(teacher, network("softmax"), KD())
    d.compile(keras.optimizers.SGD(0.05), "sparse_categorical_crossentropy")
    _, logs = fitted(small(), model=d)
    found = robust_accuracy(d.student, X, Y, 0.02, steps=2, seed=0).robust
    assert logs[NAME][-1] == found
    assert everything(teacher) == before


def test_within_keras_own_distiller_too():
    from keras.distillation import Distiller as Other
    from keras.distillation import LogitsDistillation

    other = Other(trained.model(), network(), LogitsDistillation())
    other.compile(optimizer="sgd", loss="sparse_categorical_crossentropy")
    _, logs = fitted(small(), model=other, epochs=1)
    found = robust_accuracy(other.student, X, Y, 0.02, steps=2, seed=0).robust
    assert logs[NAME] == [found]


def test_a_named_output_of_the_distiller_is_the_one_attacked():
    def both(inner):
        aside = keras.layers.Dense(1, name="size")(inner.inputs[0])
        return keras.Model(inner.inputs, {"label": inner.outputs[0], "size": aside})

    d = Distiller(both(network(seed=1)), both(network()), KD(), output="label")
    losses = {
        "label": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "size": "mse",
    }
    d.compile(keras.optimizers.SGD(0.05), losses)
    y = {"label": Y, "size": np.zeros((len(Y), 1))}
    logs = d.fit(X, y, verbose=0, callbacks=[small()]).history
    found = robust_accuracy(d.student, X, Y, 0.02, output="label", steps=2, seed=0)
    assert logs[NAME] == [found.robust]


def test_every_few_epochs_the_first_and_the_last():
    seen = []
    log = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(NAME in logs)
    )
    fitted(small(every=3), log, epochs=6)
    assert seen == [True, False, False, True, False, True]
    seen.clear()
    fitted(small(every=2), log, epochs=6, initial_epoch=3)
    assert seen == [True, False, True]


def test_a_log_file_after_it_has_its_column(tmp_path):
    path = tmp_path / "log.csv"
    _, logs = fitted(
        small(every=2, name="robust"), keras.callbacks.CSVLogger(path), epochs=4
    )
    with path.open() as file:
        rows = [row["robust"] for row in csv.DictReader(file)]
    assert rows[1] == "NA"
    assert [float(r) for r in rows if r != "NA"] == pytest.approx(logs["robust"])


def test_it_shows_in_the_progress_bar_with_its_own_on_request(capsys):
    fitted(small(), verbose=2)
    assert f"{NAME}: 0." in capsys.readouterr().out
    fitted(small(verbose=1), epochs=1)
    out = capsys.readouterr().out
    assert f"{NAME}:\n" in out and "standing" in out


def test_it_is_compiled_once_a_fit():
    if keras.backend.backend() == "torch":
        pytest.skip("nothing is compiled there")
    counting = Counting()
    model = keras.Sequential([*network().layers[:1], counting, keras.layers.Dense(4)])
    model.build((None, 6))
    compiled(model)
    counts = []
    log = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: counts.append(counting.counts["calls"])
    )
    fitted(small(), log, model=model, epochs=4)
    assert counts[1] == counts[2] == counts[3]


@pytest.mark.parametrize(
    "match, change",
    [
        ("`pgd`: `steps` must be", {"steps": 0}),
        ("`RobustAccuracy`: labels from 0 to 9", {"y": np.arange(64) % 10}),
        ("`RobustAccuracy`: `x` is of int64", {"x": np.ones((64, 6), "int64")}),
        ("outside of `range", {"range": (0, 0.5)}),
    ],
)
def test_what_does_not_fit_is_an_error_before_the_first_step(match, change):
    data = [change.pop("x", X), change.pop("y", Y)]
    model = compiled(network())
    before = numbers(model)
    with pytest.raises(ValueError, match=match):
        fitted(RobustAccuracy(*data, 0.02, **change), model=model)
    assert close(numbers(model), before, 0)


def test_an_attack_is_known_by_its_name_when_the_callback_is_made():
    logs = [
        fitted(RobustAccuracy(X, Y, 0.02, attack=one), epochs=1)[1][NAME]
        for one in (fgsm, "fgsm")
    ]
    assert logs[0] == logs[1]
    with pytest.raises(ValueError, match="`RobustAccuracy`: `attack` must be one of"):
        RobustAccuracy(X, Y, 0.02, attack="FGSM")


def test_options_of_another_attack_are_refused_before_the_first_step():
    model = compiled(network())
    before = numbers(model)
    with pytest.raises(TypeError, match="`RobustAccuracy`: `fgsm` takes no `steps`"):
        fitted(RobustAccuracy(X, Y, 0.02, attack="fgsm", steps=2), model=model)
    assert close(numbers(model), before, 0)


def test_every_is_at_least_one():
    with pytest.raises(ValueError, match="`every` must be at least 1"):
        small(every=0)


def test_one_hot_labels_and_another_attack():
    _, logs = fitted(RobustAccuracy(X, np.eye(CLASSES)[Y], 0.02, attack=fgsm), epochs=1)
    assert 0 <= logs[NAME][0] <= 1
