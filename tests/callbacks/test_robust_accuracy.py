"""The log of the robust accuracy."""

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


def fit(*callbacks, model=None, epochs=3, verbose=0, **options):
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


def robust_accuracy_callback(**options):
    return RobustAccuracy(
        X, Y, 0.02, **{"steps": 2, "seed": 0, "batch_size": 48, **options}
    )


def test_the_log_is_the_robust_accuracy_at_the_end_of_the_epoch():
    expected = []
    after = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: expected.append(
            robust_accuracy(model, X, Y, 0.02, steps=2, seed=0).robust_accuracy
        )
    )
    model = compiled(network())
    fit(robust_accuracy_callback(), after, model=model)
    logged = model.history.history[NAME]
    assert logged == expected and len(set(logged)) > 1


def test_training_is_the_same_without_the_callback():
    expected, _ = fit()
    model, _ = fit(robust_accuracy_callback())
    assert close(numbers(model), numbers(expected), 1e-7)


def test_a_distillers_student_is_attacked():
    teacher = trained.model()
    before = everything(teacher)
    distiller = Distiller(teacher, network("softmax"), KD())
    distiller.compile(keras.optimizers.SGD(0.05), "sparse_categorical_crossentropy")
    _, logs = fit(robust_accuracy_callback(), model=distiller)
    expected = robust_accuracy(distiller.student, X, Y, 0.02, steps=2, seed=0)
    assert logs[NAME][-1] == expected.robust_accuracy
    assert everything(teacher) == before


def test_the_student_of_a_keras_distiller_is_attacked():
    from keras.distillation import Distiller as KerasDistiller
    from keras.distillation import LogitsDistillation

    distiller = KerasDistiller(trained.model(), network(), LogitsDistillation())
    distiller.compile(optimizer="sgd", loss="sparse_categorical_crossentropy")
    _, logs = fit(robust_accuracy_callback(), model=distiller, epochs=1)
    expected = robust_accuracy(distiller.student, X, Y, 0.02, steps=2, seed=0)
    assert logs[NAME] == [expected.robust_accuracy]


def test_the_distilled_output_is_attacked():
    def with_size_output(inner):
        size = keras.layers.Dense(1, name="size")(inner.inputs[0])
        return keras.Model(inner.inputs, {"label": inner.outputs[0], "size": size})

    distiller = Distiller(
        with_size_output(network(seed=1)),
        with_size_output(network()),
        KD(),
        output="label",
    )
    losses = {
        "label": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "size": "mse",
    }
    distiller.compile(keras.optimizers.SGD(0.05), losses)
    y = {"label": Y, "size": np.zeros((len(Y), 1))}
    logs = distiller.fit(
        X, y, verbose=0, callbacks=[robust_accuracy_callback()]
    ).history
    expected = robust_accuracy(
        distiller.student, X, Y, 0.02, output="label", steps=2, seed=0
    )
    assert logs[NAME] == [expected.robust_accuracy]


def test_frequency_evaluates_every_few_epochs_and_the_last():
    has_log = []
    log = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: has_log.append(NAME in logs)
    )
    fit(robust_accuracy_callback(frequency=3), log, epochs=6)
    assert has_log == [True, False, False, True, False, True]
    has_log.clear()
    fit(robust_accuracy_callback(frequency=2), log, epochs=6, initial_epoch=3)
    assert has_log == [True, False, True]


def test_a_csv_logger_after_the_callback_has_its_column(tmp_path):
    path = tmp_path / "log.csv"
    _, logs = fit(
        robust_accuracy_callback(frequency=2, name="robust"),
        keras.callbacks.CSVLogger(path),
        epochs=4,
    )
    with path.open() as file:
        rows = [row["robust"] for row in csv.DictReader(file)]
    assert rows[1] == "NA"
    assert [float(r) for r in rows if r != "NA"] == pytest.approx(logs["robust"])


def test_the_progress_bar_shows_the_log_and_verbose_the_attack(capsys):
    fit(robust_accuracy_callback(), verbose=2)
    assert f"{NAME}: 0." in capsys.readouterr().out
    fit(robust_accuracy_callback(verbose=1), epochs=1)
    out = capsys.readouterr().out
    assert f"{NAME}:\n" in out and "still_robust" in out


def test_the_attack_is_compiled_once_per_fit():
    if keras.backend.backend() == "torch":
        pytest.skip("torch does not compile")
    counting = Counting()
    model = keras.Sequential([*network().layers[:1], counting, keras.layers.Dense(4)])
    model.build((None, 6))
    compiled(model)
    counts = []
    log = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: counts.append(counting.counts["calls"])
    )
    fit(robust_accuracy_callback(), log, model=model, epochs=4)
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
def test_invalid_arguments_are_errors_before_the_first_step(match, change):
    data = [change.pop("x", X), change.pop("y", Y)]
    model = compiled(network())
    before = numbers(model)
    with pytest.raises(ValueError, match=match):
        fit(RobustAccuracy(*data, 0.02, **change), model=model)
    assert close(numbers(model), before, 0)


def test_an_attack_can_be_given_by_name():
    logs = [
        fit(RobustAccuracy(X, Y, 0.02, attack=attack), epochs=1)[1][NAME]
        for attack in (fgsm, "fgsm")
    ]
    assert logs[0] == logs[1]
    with pytest.raises(ValueError, match="`RobustAccuracy`: `attack` must be one of"):
        RobustAccuracy(X, Y, 0.02, attack="FGSM")


def test_unknown_options_are_refused_before_the_first_step():
    model = compiled(network())
    before = numbers(model)
    with pytest.raises(
        TypeError, match="`RobustAccuracy`: `fgsm` has no option `steps`"
    ):
        fit(RobustAccuracy(X, Y, 0.02, attack="fgsm", steps=2), model=model)
    assert close(numbers(model), before, 0)


def test_the_frequency_must_be_a_positive_integer():
    with pytest.raises(ValueError, match="`frequency` must be an integer"):
        robust_accuracy_callback(frequency=0)


def test_one_hot_labels_and_fgsm():
    _, logs = fit(RobustAccuracy(X, np.eye(CLASSES)[Y], 0.02, attack=fgsm), epochs=1)
    assert 0 <= logs[NAME][0] <= 1
