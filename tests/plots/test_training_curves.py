"""Lines are the means over seeds, bands their standard deviation."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd import plots
from keras_dtkd.plots.style import PALETTE

pytest.importorskip("matplotlib")
RNG = np.random.default_rng(0)
KD, ALONE = RNG.uniform(0.2, 0.9, (2, 3, 8))


def draw(runs, metric="val_accuracy", **options):
    return plots.training_curves(runs, metric, **options).axes[0]


def band(collection, epochs):
    corners = collection.get_paths()[0].vertices
    found = [corners[np.isclose(corners[:, 0], e), 1] for e in epochs]
    return np.array([[at.min(), at.max()] for at in found]).T


def history(values, metric="val_accuracy", **others):
    found = keras.callbacks.History()
    found.history = {metric: list(values), **others}
    return found


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
def test_mean_and_std_over_seeds_however_they_come(form):
    ax = draw({"KD": FORMS[form]})
    (line,) = ax.lines
    np.testing.assert_array_equal(line.get_xdata(), np.arange(1, 9))
    np.testing.assert_allclose(line.get_ydata(), KD.mean(0), rtol=1e-6)
    std = np.sqrt(((KD - KD.mean(0)) ** 2).sum(0) / 2)
    found = band(ax.collections[0], range(1, 9))
    np.testing.assert_allclose(found, [KD.mean(0) - std, KD.mean(0) + std], rtol=1e-5)
    assert ax.get_title() == "Validation accuracy by epoch: mean ± std of 3 seeds"


@pytest.mark.parametrize(
    "run", [history(KD[0]), {"val_accuracy": KD[0]}, KD[0], [*KD[0]]]
)
def test_a_single_run_is_one_seed_without_a_band(run):
    ax = draw({"KD": run})
    np.testing.assert_allclose(ax.lines[0].get_ydata(), KD[0])
    assert not ax.collections and "one seed each" in ax.get_title()


def test_each_method_is_named_at_its_end_in_its_colour():
    ax = draw({"student alone": ALONE, "KD": KD})
    found = {text.get_text(): text for text in ax.texts}
    assert set(found) == {"student alone", "KD"} and ax.get_legend() is None
    for line in ax.lines:
        text = found[line.get_label()]
        assert text.get_color() == line.get_color()
        assert text.xy == pytest.approx((8, line.get_ydata()[-1]))
    assert [line.get_color() for line in ax.lines] == list(PALETTE[:2])


def test_too_many_methods_have_a_legend_and_styles_that_differ():
    runs = {f"method {k}": [KD[0], KD[1]] for k in range(24)}
    ax = draw(runs)
    assert len(ax.get_legend().get_texts()) == 24 and not ax.texts
    assert len({(li.get_color(), li.get_linestyle()) for li in ax.lines}) == 24


def test_seeds_that_stopped_early_end_the_mean():
    ax = draw({"KD": [KD[0], KD[1][:5]]})
    np.testing.assert_allclose(ax.lines[0].get_ydata(), KD[:2, :5].mean(0))


def test_a_metric_measured_now_and_then_stands_at_its_epochs():
    ax = draw({"KD": history([0.2, 0.5], loss=[1.0] * 9), "alone": ALONE})
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), [4, 8])


def test_an_accuracy_is_written_in_percent_and_a_loss_as_it_is():
    ax = draw({"KD": KD})
    assert ax.get_ylabel() == "Validation accuracy (%)"
    assert ax.yaxis.get_major_formatter()(0.25) == "25"
    for metric, values in (("loss", KD), ("accuracy", 100 * KD)):
        ax = draw({"KD": values}, metric)
        assert ax.get_ylabel() == metric.capitalize()


def test_what_fit_returns_can_be_drawn():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.ones((4, 2), "float32")
    run = model.fit(x, x[:, :1], epochs=2, verbose=0)
    np.testing.assert_allclose(
        draw({"KD": run}, "loss").lines[0].get_ydata(), run.history["loss"]
    )


def test_one_epoch_is_a_point():
    (line,) = draw({"KD": [0.5]}).lines
    assert line.get_marker() == "o"


@pytest.mark.invariant(number=10)
@pytest.mark.parametrize(
    "runs, error, message",
    [
        ([KD], TypeError, "must be a dict of method names.*list"),
        ({}, ValueError, "`runs` is empty"),
        ({"KD": []}, ValueError, "no run of 'KD'"),
        ({"KD": {"loss": [1.0]}}, ValueError, "'KD' has no 'val_accuracy'.*loss"),
        ({"KD": history([])}, ValueError, r"Received: shape \(0,\)"),
        ({"KD": [KD, KD]}, ValueError, r"Received: shape \(3, 8\)"),
        (
            {"KD": [history([0.1, 0.2], loss=[1] * 4), [0.1, 0.2]]},
            ValueError,
            "different epochs",
        ),
    ],
)
def test_wrong_runs_are_refused(runs, error, message):
    with pytest.raises(error, match=f"plots.training_curves.*{message}"):
        plots.training_curves(runs)
