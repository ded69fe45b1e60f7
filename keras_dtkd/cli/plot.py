"""The figure that accompanies the table."""

from keras_dtkd import plots
from keras_dtkd.cli.table import KEY_COLUMNS, dedupe_seeds, group_runs, row_name
from keras_dtkd.plots import style


def plot_table(table, runs):
    """Accuracy by row, mean ± std, and by epoch; `None` without a finished run."""
    rows = [row for row in table["rows"] if row["seeds"]]
    if not rows:
        return None
    labels = [_label(row, table["varying"]) for row in rows]
    figure = style.new_figure(12, max(4.5, 1.5 + 0.35 * len(rows)))
    left, right = figure.subplots(1, 2, width_ratios=(3, 4))
    colors = style.colors(labels)
    for height, (label, row) in enumerate(reversed([*zip(labels, rows, strict=True)])):
        for which, offset, is_filled in (("last", -0.12, True), ("best", 0.12, False)):
            mean, std = row[which]["mean"], row[which]["std"]
            xerr, color = None if std is None else 100 * std, colors[label]
            marker = {"fmt": "o", "mfc": color if is_filled else "white", "capsize": 3}
            left.errorbar(100 * mean, height + offset, xerr=xerr, color=color, **marker)
    for which, face_color in (("best", "white"), ("last", style.GRAY)):
        left.plot([], [], "o", color=style.GRAY, mfc=face_color, label=f"{which} epoch")
    left.set_yticks(range(len(rows)), labels[::-1])
    left.set(xlabel="Test accuracy (%)", ylim=(-0.6, len(rows) - 0.4))
    left.set_title("Mean ± std over seeds", fontsize=11)
    left.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.06), ncols=2)
    left.grid(axis="x", alpha=0.3)
    style.despine(left)
    evaluated_on = {run["judged_on"] for run in runs if run["status"] == "finished"}
    images = evaluated_on.pop() if len(evaluated_on) == 1 else "validation or test"
    # In the order of `rows`, which are those with finished runs.
    groups = [dedupe_seeds(group) for _, group in group_runs(runs)]
    groups = [[r for r in group if r["status"] == "finished"] for group in groups]
    curves = [[run["val_accuracy"] for run in group] for group in groups if group]
    by_label = dict(zip(labels, curves, strict=True))
    plots.training_curves(by_label, f"{images} accuracy", ax=right)
    return figure


def _label(row, varying):
    settings = [
        f"{name.replace('_', ' ')} {row[name]}"
        for name in varying
        if row[name] is not None
    ]
    return ", ".join([f"{row_name(row)} {row[KEY_COLUMNS[1]]}", *settings])
