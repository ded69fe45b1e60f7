"""A line for each level of each run."""

import types

import numpy as np
import pytest

from keras_dtkd import plots

matplotlib = pytest.importorskip("matplotlib")
RUN = {
    "loss": [3.0, 2.0, 1.0],
    "attention_entropy_1": [1.0, 0.5, 0.1],
    "attention_entropy_2": [0.9, 0.8, 0.7],
}
OTHER = {name: values[:2] for name, values in RUN.items()}


def lines(figure):
    return {line.get_label(): line for line in figure.axes[0].lines}


@pytest.mark.parametrize("form", ["dict", "history"])
def test_a_run_has_a_line_for_each_level(form):
    run = RUN if form == "dict" else types.SimpleNamespace(history=RUN)
    found = lines(plots.attention_entropy(run))
    assert set(found) == {"level 1", "level 2"}
    points = found["level 2"].get_xydata()
    np.testing.assert_allclose(points, [[1, 0.9], [2, 0.8], [3, 0.7]])


def test_a_resumed_run_begins_at_its_epoch():
    run = types.SimpleNamespace(history=RUN, epoch=[4, 5, 6])
    for runs in (run, {"KD": run}):
        for line in lines(plots.attention_entropy(runs)).values():
            assert list(line.get_xdata()) == [5, 6, 7]


def test_levels_have_colors_and_runs_kinds_of_lines():
    figure = plots.attention_entropy({"CE": RUN, "KD": OTHER}, ["a", "b"])
    found = lines(figure)
    assert set(found) == {"CE, a", "CE, b", "KD, a", "KD, b"}
    assert found["CE, a"].get_color() == found["KD, a"].get_color()
    assert found["CE, a"].get_color() != found["CE, b"].get_color()
    assert found["CE, a"].get_linestyle() == "-"
    assert found["KD, b"].get_linestyle() == "--"
    assert len(found["KD, a"].get_xydata()) == 2


def test_a_single_epoch_is_a_point():
    run = {"attention_entropy_1": [0.5]}
    assert lines(plots.attention_entropy(run))["level 1"].get_marker() == "o"


@pytest.mark.invariant(number=10)
@pytest.mark.parametrize(
    "args, error, message",
    [
        (([0.1],), TypeError, "`runs` must be a dict"),
        (({},), ValueError, "`runs` is empty"),
        (({"KD": 0.1},), TypeError, "'KD' must be a history.*float"),
        (({"KD": {"loss": [1.0]}},), ValueError, "'KD' has no.*It has: loss"),
        ((RUN, ["a"]), ValueError, r"`levels` must be 2 names.*\['a'\]"),
    ],
)
def test_wrong_arguments_raise(args, error, message):
    with pytest.raises(error, match=message):
        plots.attention_entropy(*args)
