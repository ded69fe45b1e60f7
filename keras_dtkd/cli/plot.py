"""The picture beside the table."""

from keras_dtkd import plots
from keras_dtkd.cli.table import FIRST, called, each_seed_once, grouped
from keras_dtkd.plots import style


def draw(table, runs):
    """Best and last epoch of each row, mean ± std, and the epochs of all.

    Args:
        table: From `table.make`.
        runs: What it was made from.

    Returns:
        The matplotlib figure; `None` where no run is finished.

    Raises:
        ImportError: There is no matplotlib.
    """
    rows = [row for row in table["rows"] if row["seeds"]]
    if not rows:
        return None
    names = (*FIRST, *table["varying"])
    labels = [_name(row, names) for row in rows]
    figure = style.new_figure(12, max(4.5, 1.5 + 0.35 * len(rows)))
    left, right = figure.subplots(1, 2, width_ratios=(3, 4))
    colours = style.colors(labels)
    for height, (label, row) in enumerate(reversed([*zip(labels, rows, strict=True)])):
        for which, offset, filled in (("last", -0.12, True), ("best", 0.12, False)):
            mean, std = row[which]["mean"], row[which]["std"]
            colour = colours[label]
            left.errorbar(
                100 * mean,
                height + offset,
                xerr=None if std is None else 100 * std,
                fmt="o",
                color=colour,
                mfc=colour if filled else "white",
                capsize=3,
            )
    for which, filling in (("best", "white"), ("last", style.GRAY)):
        left.plot([], [], "o", color=style.GRAY, mfc=filling, label=f"{which} epoch")
    left.set_yticks(range(len(rows)), labels[::-1])
    left.set(xlabel="Test accuracy (%)", ylim=(-0.6, len(rows) - 0.4))
    left.set_title("Mean ± std over seeds", fontsize=11)
    left.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.06), ncols=2)
    left.grid(axis="x", alpha=0.3)
    style.despine(left)
    judged = {run["judged_on"] for run in runs if run["status"] == "finished"}
    what = judged.pop() if len(judged) == 1 else "validation or test"
    # In the order of the rows, of which some have no finished run.
    curves = [found for _, group in grouped(runs) if (found := _epochs(group))]
    epochs = dict(zip(labels, curves, strict=True))
    plots.training_curves(epochs, f"{what} accuracy", ax=right)
    return figure


def _name(row, names):
    others = [
        f"{name.replace('_', ' ')} {row[name]}"
        for name in names[len(FIRST) :]
        if row[name] is not None
    ]
    return ", ".join([f"{called(row)} {row['backend']}", *others])


def _epochs(runs):
    runs = each_seed_once(runs)
    return [run["val_accuracy"] for run in runs if run["status"] == "finished"]
