"""Lines are means over seeds, and bands their standard deviations."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd import plots
from keras_dtkd.plots.style import PALETTE

pytest.importorskip("matplotlib")
RNG = np.random.default_rng(0)
KD, BASELINE = RNG.uniform(0.2, 0.9, (2, 3, 8))


def draw(runs, metric="val_accuracy", **options):
    return plots.training_curves(runs, metric, **options).axes[0]


def band(collection, epochs):
    corners = collection.get_paths()[0].vertices
    edges = [corners[np.isclose(corners[:, 0], e), 1] for e in epochs]
    return np.array([[y.min(), y.max()] for y in edges]).T


def history(values, metric="val_accuracy", **others):
    run = keras.callbacks.History()
    run.history = {metric: list(values), **others}
    return run


def resumed(values):
    run = history(values)
    run.epoch = [6, 7]
    return run


FORMS = {
    "histories": [history(v, loss=[1.0] * 8) for v in KD],
    "dicts": [{"val_accuracy": v.tolist()} for v in KD],
    "arrays": list(KD),
    "lists": KD.tolist(),
    "a 2D array": KD,
    "a tensor": ops.convert_to_tensor(KD),
    "tensors": [ops.convert_to_tensor(v) for v in KD],
    "a tuple": tuple(KD),
}


@pytest.mark.parametrize("form", FORMS)
def test_mean_and_std_over_seeds_for_any_form_of_runs(form):
    ax = draw({"KD": FORMS[form]})
    (line,) = ax.lines
    np.testing.assert_array_equal(line.get_xdata(), np.arange(1, 9))
    np.testing.assert_allclose(line.get_ydata(), KD.mean(0), rtol=1e-6)
    std = np.sqrt(((KD - KD.mean(0)) ** 2).sum(0) / 2)
    edges = band(ax.collections[0], range(1, 9))
    np.testing.assert_allclose(edges, [KD.mean(0) - std, KD.mean(0) + std], rtol=1e-5)
    assert ax.get_title() == "Validation accuracy by epoch: mean ± std of 3 seeds"


@pytest.mark.parametrize(
    "run", [history(KD[0]), {"val_accuracy": KD[0]}, KD[0], [*KD[0]]]
)
def test_a_single_run_has_no_band(run):
    ax = draw({"KD": run})
    np.testing.assert_allclose(ax.lines[0].get_ydata(), KD[0])
    assert not ax.collections and "one seed each" in ax.get_title()


def test_the_legend_has_the_name_of_each_line_in_its_color():
    ax = draw({"baseline": BASELINE, "KD": KD})
    legend = ax.get_legend()
    names = [text.get_text() for text in legend.get_texts()]
    assert set(names) == {"baseline", "KD"}
    colors = dict(zip(names, legend.get_lines(), strict=True))
    for line in ax.lines:
        assert colors[line.get_label()].get_color() == line.get_color()
    assert [line.get_color() for line in ax.lines] == list(PALETTE[:2])


def test_many_methods_have_distinct_styles():
    runs = {f"method {k}": [KD[0], KD[1]] for k in range(24)}
    ax = draw(runs)
    assert len(ax.get_legend().get_texts()) == 24
    assert len({(li.get_color(), li.get_linestyle()) for li in ax.lines}) == 24


def test_the_mean_ends_with_the_shortest_run():
    ax = draw({"KD": [KD[0], KD[1][:5]]})
    np.testing.assert_allclose(ax.lines[0].get_ydata(), KD[:2, :5].mean(0))


@pytest.mark.single_backend
@pytest.mark.parametrize(
    "epochs, validation_freq, expected",
    [
        (9, 4, [4, 8]),
        (10, 4, [4, 8]),
        (5, np.int64(3), [3]),
        # A callback's `frequency=3`.
        (10, [1, 4, 7, 10], [1, 4, 7, 10]),
        (10, range(1, 11, 3), [1, 4, 7, 10]),
    ],
)
def test_a_metric_measured_every_few_epochs_is_at_its_epochs(
    epochs, validation_freq, expected
):
    run = history(np.linspace(0.2, 0.5, len(expected)), loss=[1.0] * epochs)
    runs = {"KD": run, "baseline": BASELINE}
    ax = draw(runs, validation_freq=validation_freq)
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), expected)
    np.testing.assert_array_equal(ax.lines[1].get_xdata(), range(1, 9))


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
@pytest.mark.parametrize("validation_freq", [None, 2, 5, [1, 4, 7]])
def test_epochs_of_a_metric_are_asked_for_and_never_guessed(validation_freq):
    run = history([0.1, 0.2, 0.3, 0.4], loss=[1.0] * 10)
    message = "`validation_freq`, as to `fit`.*a list of 4 epochs.*validation_freq="
    with pytest.raises(ValueError, match=f"4 values of 'val_acc.*10 epochs.*{message}"):
        draw({"KD": run}, validation_freq=validation_freq)


def test_accuracies_are_in_percent_and_losses_unchanged():
    ax = draw({"KD": KD})
    assert ax.get_ylabel() == "Validation accuracy (%)"
    assert ax.yaxis.get_major_formatter()(0.25) == "25"
    for metric, values in (("loss", KD), ("accuracy", 100 * KD)):
        ax = draw({"KD": values}, metric)
        assert ax.get_ylabel() == metric.capitalize()


def test_the_result_of_fit_is_accepted():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.ones((4, 2), "float32")
    run = model.fit(x, x[:, :1], epochs=2, verbose=0)
    np.testing.assert_allclose(
        draw({"KD": run}, "loss").lines[0].get_ydata(), run.history["loss"]
    )


def test_what_fit_returned_is_drawn_in_training_and_validation():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.ones((4, 2), "float32")
    options = {"validation_data": (x, x[:, :1]), "validation_freq": 2, "verbose": 0}
    run = model.fit(x, x[:, :1], epochs=4, **options)
    for metric in ("loss", "val_loss"):
        ax = draw(run, metric, validation_freq=2)
        assert ax.get_ylabel() == "Loss"
        training, validation = ax.lines
        np.testing.assert_allclose(training.get_ydata(), run.history["loss"])
        np.testing.assert_allclose(validation.get_ydata(), run.history["val_loss"])
        assert list(validation.get_xdata()) == [2, 4]
    with pytest.raises(ValueError, match="has no 'accuracy'. It has: loss, val_loss"):
        draw(run, "accuracy")


def test_a_resumed_run_begins_at_its_epoch():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.ones((4, 2), "float32")
    options = {"validation_data": (x, x[:, :1]), "validation_freq": 2, "verbose": 0}
    run = model.fit(x, x[:, :1], initial_epoch=5, epochs=10, **options)
    training, validation = draw(run, "loss", validation_freq=2).lines
    assert list(training.get_xdata()) == [6, 7, 8, 9, 10]
    assert list(validation.get_xdata()) == [6, 8, 10]
    assert list(draw({"KD": run}, "loss").lines[0].get_xdata()) == [6, 7, 8, 9, 10]


def test_a_single_epoch_is_a_point():
    (line,) = draw({"KD": [0.5]}).lines
    assert line.get_marker() == "o"


@pytest.mark.invariant(number=10)
@pytest.mark.parametrize(
    "runs, error, message",
    [
        ([KD], TypeError, "`runs` must be a dict.*list"),
        ({}, ValueError, "`runs` is empty"),
        ({"KD": []}, ValueError, "'KD' has no runs"),
        ({"KD": {"loss": [1.0]}}, ValueError, "'KD' has no 'val_accuracy'.*loss"),
        ({"KD": history([])}, ValueError, r"Received: shape \(0,\)"),
        ({"KD": [KD, KD]}, ValueError, r"Received: shape \(3, 8\)"),
        (
            {"KD": [resumed([0.1, 0.2]), [0.1, 0.2]]},
            ValueError,
            "different epochs",
        ),
    ],
)
def test_invalid_runs_raise(runs, error, message):
    with pytest.raises(error, match=f"plots.training_curves.*{message}"):
        plots.training_curves(runs)
