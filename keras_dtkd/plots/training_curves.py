"""Training curves of several methods, averaged over seeds."""

import collections.abc
import numbers
import re
from types import SimpleNamespace

import numpy as np

from keras_dtkd.plots import inputs, style

CALLER = "plots.training_curves"


def training_curves(runs, metric="val_accuracy", ax=None, validation_freq=None):
    """Draws a metric by epoch: for each method the mean ± std over its seeds.

    Args:
        runs: What `fit` returned, whose metric is drawn in training and validation; or
            a dict from method names to a list of runs, one per seed, or a single run. A
            run is the result of `fit`, its `history` (a dict), or the values of
            the metric, one per epoch. A 2D array has one run in each row.
        metric: Name of the metric in the histories and on the axis.
        ax: Axes to draw in. Optional.
        validation_freq: When a metric with fewer values than epochs was measured, as
            in `fit`: every so many epochs, or a list of epochs, from 1. A callback with
            `frequency=3` measures in `[1, 4, 7, 10]` of 10 epochs.

    Returns:
        The matplotlib figure. The band is the standard deviation over seeds (with
        n - 1); a single seed has none. If seeds stopped at different epochs, the mean
        ends with the shortest run, because later means would be of fewer seeds.

    Raises:
        ImportError: matplotlib is not installed.
        TypeError: `runs` is neither a dict nor what `fit` returned.
        ValueError: There are no runs; a run has no value of the metric; a metric has
            fewer values than epochs and `validation_freq` is not given, or gives other
            epochs than it has values; or the seeds of one method measured it at
            different epochs.

    Example:

    >>> figure = plots.training_curves(distiller.fit(x, y, validation_split=0.1))
    >>> runs = {"KD": [fit(KD(), s) for s in range(5)], "DTKD": [...]}
    >>> figure = plots.training_curves(runs)
    """
    if hasattr(runs, "history"):
        runs, metric = _split_history(runs, metric)
    inputs.validate_dict(CALLER, "runs", runs, "{'KD': [run, ...], 'DTKD': [...]}")
    curves = {
        name: _align_runs(name, value, metric, validation_freq)
        for name, value in runs.items()
    }
    ax = style.new_figure(7.5, 4.5).subplots() if ax is None else ax
    colors = style.colors(curves)
    for index, (name, (epochs, values)) in enumerate(curves.items()):
        mean, color = values.mean(0), colors[name]
        styles = style.LINE_STYLES
        line_style = styles[index // len(style.PALETTE) % len(styles)]
        # A single point has no line.
        marker = "o" if len(epochs) == 1 else None
        ax.plot(epochs, mean, line_style, color=color, lw=2, marker=marker, label=name)
        if len(values) > 1:
            std, band = values.std(0, ddof=1), {"color": color, "alpha": 0.2, "lw": 0}
            ax.fill_between(epochs, mean - std, mean + std, **band)
    _label_axes(ax, curves, metric)
    style.label_lines(ax)
    return style.root_figure(ax)


def _split_history(run, metric):
    """The curves of one `fit`: `({"training": run, "validation": run}, name)`."""
    name = metric.removeprefix("val_")
    names = {"training": name, "validation": f"val_{name}"}
    history, epochs = run.history, getattr(run, "epoch", None)
    # Validation may be less frequent: the longest shows how many epochs there were.
    longest = max(history.values(), key=len, default=())
    curves = {
        label: SimpleNamespace(
            history={name: history[n], "longest": longest}, epoch=epochs
        )
        for label, n in names.items()
        if n in history
    }
    if not curves:
        raise ValueError(
            f"`{CALLER}`: the run has no {metric!r}. It has: "
            f"{', '.join(map(str, history)) or 'no metrics'}."
        )
    return curves, name


def _label_axes(ax, curves, metric):
    from matplotlib.ticker import PercentFormatter

    seeds = sorted({len(values) for _, values in curves.values()})
    num_seeds = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    spread = f"mean ± std of {num_seeds} seeds" if seeds[-1] > 1 else "one seed each"
    name = re.sub("^val ", "validation ", metric.replace("_", " "))
    name = name[:1].upper() + name[1:]
    all_values = np.concatenate([values.ravel() for _, values in curves.values()])
    is_fraction = np.nanmin(all_values) >= 0 and np.nanmax(all_values) <= 1
    ax.set_title(f"{name} by epoch: {spread}", fontsize=11)
    ax.set(xlabel="Epoch", ylabel=name)
    if "accuracy" in metric and is_fraction:
        # Only the tick labels change; the lines keep their values.
        ax.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
        ax.set_ylabel(f"{name} (%)")
    ax.margins(x=0)
    ax.xaxis.get_major_locator().set_params(integer=True)
    style.despine(ax)


def _align_runs(name, value, metric, validation_freq):
    """Epochs, and values `(seeds, epochs)`, of one method's runs."""
    runs = [_run_values(name, run, metric, validation_freq) for run in _as_runs(value)]
    if not runs:
        raise ValueError(f"`{CALLER}`: {name!r} has no runs.")
    shortest = min(len(epochs) for epochs, _ in runs)
    epochs = np.stack([epochs[:shortest] for epochs, _ in runs])
    if (epochs != epochs[0]).any():
        raise ValueError(
            f"`{CALLER}`: the seeds of {name!r} measured {metric!r} at different "
            "epochs. Use the same `validation_freq`, or draw them separately."
        )
    return epochs[0], np.stack([values[:shortest] for _, values in runs])


def _as_runs(value):
    """A list of runs, whether one or several were passed."""
    if _history_of(value) is not None:
        return [value]
    value = list(value) if isinstance(value, list | tuple) else inputs.to_float64(value)
    is_run = len(value) and _history_of(value[0]) is None and np.ndim(value[0]) == 0
    return [value] if is_run else value


def _history_of(run):
    run = getattr(run, "history", run)
    return run if isinstance(run, collections.abc.Mapping) else None


def _run_values(name, run, metric, validation_freq):
    """Epochs and values of a run, each `(epochs,)`."""
    history = _history_of(run)
    if history is None:
        values = longest = run
    elif metric in history:
        values, longest = history[metric], max(history.values(), key=len)
    else:
        raise ValueError(
            f"`{CALLER}`: a run of {name!r} has no {metric!r}. It has: "
            f"{', '.join(map(str, history)) or 'no metrics'}."
        )
    values = inputs.to_float64(values)
    if values.ndim != 1 or not len(values):
        raise ValueError(
            f"`{CALLER}`: a run of {name!r} must have one value of {metric!r} per "
            f"epoch. Received: shape {values.shape}."
        )
    epochs = inputs.epochs_of(run, len(longest))
    if len(values) == len(epochs):
        return epochs, values
    if isinstance(validation_freq, numbers.Integral):
        # Keras counts from the first epoch of all.
        measured = epochs[epochs % validation_freq == 0]
    else:
        measured = epochs[np.isin(epochs, list(validation_freq or []))]
    if len(measured) != len(values):
        raise ValueError(
            f"`{CALLER}`: a run of {name!r} has {len(values)} values of {metric!r} in "
            f"{len(epochs)} epochs. Pass `validation_freq`, as to `fit`: an integer, "
            f"or a list of {len(values)} epochs, from 1. Received: "
            f"validation_freq={validation_freq!r}."
        )
    return measured, values
