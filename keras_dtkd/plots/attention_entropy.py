"""The entropy of attention over the epochs."""

import collections.abc
import re

from keras_dtkd.plots import inputs, style

CALLER = "plots.attention_entropy"
NAME = re.compile(r"attention_entropy_(\d+)")


def attention_entropy(runs, levels=None, ax=None):
    """Draws the entropy of each level's attention by epoch, of one run or several.

    A level has a color and a run has a kind of line.

    Args:
        runs: What `fit` returned with a `callbacks.AttentionEntropyLogger`, its
            `history`, or the logger's; or a dict of them, by the names of the runs.
        levels: Names of the levels. Optional: `["1 to 2", "2 to 3", "3 to classes"]`.
        ax: Axes to draw in. Optional.

    Returns:
        The matplotlib figure.

    Raises:
        ImportError: matplotlib is not installed.
        TypeError: `runs` is no run and no dict of runs.
        ValueError: A run has no `attention_entropy_1`, or `levels` are not one name for
            each level.

    Example:

    >>> figure = plots.attention_entropy({"CE": alone_history, "KD": kd_history})
    """
    single = getattr(runs, "history", runs)
    inputs.validate_dict(CALLER, "runs", single, "{'CE': history, 'KD': history}")
    is_single = any(isinstance(name, str) and NAME.fullmatch(name) for name in single)
    curves = {
        name: _find_curves(name, run)
        for name, run in ({"": runs} if is_single else single).items()
    }
    numbers = sorted({number for run in curves.values() for number in run})
    levels = [f"level {n}" for n in numbers] if levels is None else list(levels)
    if len(levels) != len(numbers):
        raise ValueError(
            f"`{CALLER}`: `levels` must be {len(numbers)} names. Received: "
            f"levels={levels}."
        )
    ax = style.new_figure(7.5, 4.5).subplots() if ax is None else ax
    colors = style.colors(levels)
    for index, (name, run) in enumerate(curves.items()):
        line_style = style.LINE_STYLES[index % len(style.LINE_STYLES)]
        for number, level in zip(numbers, levels, strict=True):
            if number not in run:
                continue
            epochs, values = run[number]
            ax.plot(
                epochs,
                values,
                line_style,
                color=colors[level],
                lw=2,
                marker="o" if len(values) == 1 else None,
                label=level if is_single else f"{name}, {level}",
            )
    ax.set_title("Entropy of attention by epoch", fontsize=11)
    ax.set(xlabel="Epoch", ylabel="Entropy (1: uniform, 0: one parent)")
    ax.set_ylim(-0.02, 1.02)
    ax.margins(x=0)
    ax.xaxis.get_major_locator().set_params(integer=True)
    style.despine(ax)
    style.label_lines(ax)
    return style.root_figure(ax)


def _find_curves(name, run):
    """Epochs and values of a run by the number of their level."""
    history = getattr(run, "history", run)
    if not isinstance(history, collections.abc.Mapping):
        raise TypeError(
            f"`{CALLER}`: {name!r} must be a history. Received: {type(run).__name__}."
        )
    names = {key: NAME.fullmatch(str(key)) for key in history}
    curves = {}
    for key, match in names.items():
        if match:
            values = inputs.to_float64(history[key])
            curves[int(match[1])] = inputs.epochs_of(run, len(values)), values
    if not curves:
        raise ValueError(
            f"`{CALLER}`: the run {name!r} has no 'attention_entropy_1', which "
            "`callbacks.AttentionEntropyLogger` logs. It has: "
            f"{', '.join(map(str, history)) or 'nothing'}."
        )
    return curves
