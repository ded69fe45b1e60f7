"""How several methods train, and how much that varies from seed to seed."""

import collections.abc

import numpy as np

from keras_dtkd.plots import inputs, style

WHO = "plots.training_curves"
STYLES = "-", "--", ":", "-."


def training_curves(runs, metric="val_accuracy", ax=None):
    """Draws a metric by epoch, for each method the mean over its seeds ± their std.

    Args:
        runs: A dict of method names. To each belongs a list of runs, one a seed, or
            a single run. A run is what `fit` returned, its `history` (a dict), or the
            values of the metric, an epoch each. A 2D array holds a run in each row.
        metric: Its name in the histories, and on the axis. One with fewer values than
            there were epochs is taken for measured every so many of them
            (`validation_freq`).
        ax: Axes to draw in. Optional.

    Returns:
        The matplotlib figure. The band is the standard deviation over seeds (divisor:
        their number less 1); one seed has none. Where seeds stopped at different
        epochs, the mean ends with the first of them: beyond it would be one of others.

    Raises:
        ImportError: There is no matplotlib.
        TypeError: `runs` is no dict.
        ValueError: There is no run, or no value of the metric in one, or seeds of one
            method measured it at different epochs.

    Example:

    >>> runs = {"KD": [fit(KD(), s) for s in range(5)], "DTKD": [...]}
    >>> figure = plots.training_curves(runs)
    """
    if not isinstance(runs, collections.abc.Mapping):
        raise TypeError(
            f"`{WHO}`: `runs` must be a dict of method names, each with its runs. "
            f"Received: {type(runs).__name__}."
        )
    if not runs:
        raise ValueError(f"`{WHO}`: `runs` is empty. Give at least one method.")
    found = {name: _aligned(name, value, metric) for name, value in runs.items()}
    if ax is None:
        ax = style.new_figure(7.5, 4.5).subplots()
    ends = []
    for count, (name, colour) in enumerate(style.colours(found).items()):
        epochs, values = found[name]
        mean = values.mean(0)
        line_style = STYLES[count // len(style.PALETTE) % len(STYLES)]
        # A single point makes no line.
        marker = "o" if len(epochs) == 1 else None
        ax.plot(epochs, mean, line_style, color=colour, lw=2, marker=marker, label=name)
        if len(values) > 1:
            std = values.std(0, ddof=1)
            ax.fill_between(
                epochs, mean - std, mean + std, color=colour, alpha=0.2, lw=0
            )
        ends.append((epochs[-1], mean[-1], name, colour))
    _label(ax, found, metric)
    if not style.name_ends(ax, ends):
        ax.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return style.root(ax)


def _label(ax, found, metric):
    seeds = sorted({len(values) for _, values in found.values()})
    many = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    what = metric.replace("_", " ")
    what = f"validation {what[4:]}" if metric.startswith("val_") else what
    what = what[:1].upper() + what[1:]
    everything = np.concatenate([values.ravel() for _, values in found.values()])
    share = "accuracy" in metric and np.nanmin(everything) >= 0
    share = share and np.nanmax(everything) <= 1
    first = min(epochs[0] for epochs, _ in found.values())
    last = max(epochs[-1] for epochs, _ in found.values())
    spread = f"mean ± std of {many} seeds" if seeds[-1] > 1 else "one seed each"
    ax.set(
        title=f"{what} by epoch: {spread}",
        xlabel="Epoch",
        ylabel=f"{what} (%)" if share else what,
        xlim=(first, last) if last > first else None,
    )
    ax.title.set_fontsize(11)
    ax.xaxis.get_major_locator().set_params(integer=True)
    if share:
        # Only how it is written: the lines have the values as they are.
        ax.yaxis.set_major_formatter(_percent)
    style.clear(ax)


def _percent(value, _):
    # By itself, for a pickled figure holds no lambda.
    return f"{100 * value:g}"


def _aligned(name, value, metric):
    """Epochs and values `(seeds, epochs)` of one method's runs."""
    runs = [_run(name, run, metric) for run in _several(value)]
    if not runs:
        raise ValueError(f"`{WHO}`: there is no run of {name!r}.")
    shortest = min(len(epochs) for epochs, _ in runs)
    epochs = np.stack([epochs[:shortest] for epochs, _ in runs])
    if (epochs != epochs[0]).any():
        raise ValueError(
            f"`{WHO}`: the seeds of {name!r} measured {metric!r} at different epochs. "
            "Give them the same `validation_freq`, or draw them apart."
        )
    return epochs[0], np.stack([values[:shortest] for _, values in runs])


def _several(value):
    """A method's runs, if it is one run or many."""
    if _history(value) is not None:
        return [value]
    value = list(value) if isinstance(value, list | tuple) else inputs.numbers(value)
    if len(value) and _history(value[0]) is None and np.ndim(value[0]) == 0:
        return [value]
    return value


def _history(run):
    run = getattr(run, "history", run)
    return run if isinstance(run, collections.abc.Mapping) else None


def _run(name, run, metric):
    """Epochs and values of one run, each `(epochs,)`."""
    history = _history(run)
    if history is None:
        values = longest = run
    elif metric in history:
        values, longest = history[metric], max(history.values(), key=len)
    else:
        raise ValueError(
            f"`{WHO}`: a run of {name!r} has no {metric!r}. It has: "
            f"{', '.join(map(str, history)) or 'nothing'}."
        )
    values = inputs.numbers(values)
    if values.ndim != 1 or not len(values):
        raise ValueError(
            f"`{WHO}`: a run of {name!r} must have one value of {metric!r} an epoch. "
            f"Received: shape {values.shape}."
        )
    every = len(longest) // len(values)
    return every * np.arange(1, len(values) + 1), values
