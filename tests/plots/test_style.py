"""Plots import matplotlib only to draw, and leave its global state unchanged."""

import ast
import inspect
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_dtkd import plots
from keras_dtkd.plots import style
from tests.diagnostics.test_explanation_tables import build

matplotlib = pytest.importorskip("matplotlib")
Z = np.random.default_rng(0).normal(size=(2, 12, 4))
Y = np.arange(12) % 4
IMAGES = np.zeros((1, 8, 8, 3))
BOXES = {"boxes": np.array([[[1, 1, 6, 5]]]), "labels": np.array([[0]])}
EXPLANATION = build(5, samples=200)
TREE = [np.full((3, 2), 0.5), np.full((4, 3), 1 / 3)]
ENTROPY = {"attention_entropy_1": [0.9, 0.5]}
DRAW = {
    "temperatures": lambda **k: plots.temperatures(4.0, *Z, **k),
    "soft_labels": lambda **k: plots.soft_labels(*Z, **k),
    "training_curves": lambda **k: plots.training_curves({"KD": [0.1, 0.5]}, **k),
    "calibration": lambda **k: plots.calibration(Y, {"teacher": Z[0]}, **k),
    "explanation": lambda **k: plots.explanation(EXPLANATION, **k),
    "mixture_tree": lambda **k: plots.mixture_tree(TREE, **k),
    "attention_entropy": lambda **k: plots.attention_entropy(ENTROPY, **k),
    "detections": lambda **k: plots.detections(IMAGES, labels=BOXES, **k),
}


def test_each_plot_is_tested_here():
    assert set(DRAW) == {n for n, v in vars(plots).items() if inspect.isfunction(v)}


def test_only_one_file_imports_matplotlib_at_its_top():
    importing = []
    package = Path(plots.__file__).parents[1]
    for path in package.rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                if "matplotlib" in ast.unparse(node):
                    importing.append(path.name)
    assert importing == ["notebook_figure.py"]


@pytest.mark.invariant(number=10)
@pytest.mark.parametrize("name", DRAW)
def test_without_matplotlib_the_error_names_the_package_to_install(name, monkeypatch):
    for module in [m for m in sys.modules if m.split(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "keras_dtkd.plots.notebook_figure", raising=False)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        DRAW[name]()


@pytest.mark.parametrize("name", DRAW)
def test_returns_a_figure_and_changes_no_global_state(name):
    import matplotlib.pyplot as plt

    before = dict(matplotlib.rcParams)
    figure = DRAW[name]()
    assert isinstance(figure, matplotlib.figure.Figure)
    assert plt.get_fignums() == []
    assert dict(matplotlib.rcParams) == before


# A tree has columns of nodes, with names, in place of axes.
@pytest.mark.parametrize("name", [name for name in DRAW if name != "mixture_tree"])
def test_every_plot_has_a_title_and_axis_labels(name):
    figure = DRAW[name]()
    assert figure.get_suptitle() or figure.axes[0].get_title()
    assert all(ax.get_xlabel() for ax in figure.axes if ax.xaxis.get_ticklabels())
    assert figure.axes[0].get_ylabel()


@pytest.mark.parametrize("name", DRAW)
def test_draws_in_the_given_axes_or_figure(name):
    figure = matplotlib.figure.Figure(layout="constrained")
    _, subfigure = figure.subfigures(1, 2)
    takes_axes = "ax" in inspect.signature(getattr(plots, name)).parameters
    target = {"ax": subfigure.subplots()} if takes_axes else {"figure": subfigure}
    assert DRAW[name](**target) is figure
    assert subfigure.axes and all(ax.has_data() for ax in subfigure.axes)
    figure.draw_without_rendering()


def test_figures_are_displayed_by_notebooks_and_pickled():
    figure = pickle.loads(pickle.dumps(DRAW["training_curves"]()))
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_the_colors_of_teacher_and_student_are_fixed():
    names = ["KD", "student", "DTKD", "teacher", *map(str, range(5))]
    colors = style.colors(names)
    assert (colors["teacher"], colors["student"]) == (style.TEACHER, style.STUDENT)
    others = [c for name, c in colors.items() if name not in style.MODEL_COLORS]
    assert not {style.TEACHER, style.STUDENT} & set(others)
    assert len(set(others[:5])) == 5


def test_the_names_of_lines_are_in_the_order_of_their_ends():
    ax = style.new_figure(5, 4).subplots()
    for name, values in {"low": [0.9, 0.1], "high": [0, 1]}.items():
        ax.plot(values, label=name)
    ax.plot([0.5, 0.5])
    style.label_lines(ax)
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["high", "low"]
