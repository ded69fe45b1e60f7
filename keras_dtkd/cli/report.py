"""Writes the table and the figure of the run.json files in a folder."""

import json
from pathlib import Path

from keras_dtkd import plots
from keras_dtkd.cli import console, run_dir, table
from keras_dtkd.cli.errors import UserError
from keras_dtkd.core.atomic_io import atomic_write, write_json, write_text
from keras_dtkd.plots import style

FILES = {kind: f"report.{kind}" for kind in ("md", "json", "png")}


def add_arguments(parser):
    """Adds the options of the command."""
    parser.add_argument(
        "folder", type=Path, metavar="DIR", help="folder with runs, at any depth"
    )
    parser.add_argument(
        "--json", action="store_true", help="print the table as JSON and write no files"
    )


def run(args):
    """Runs the command."""
    if args.json:
        result = table.build_table(_read_runs(args.folder))
        print(json.dumps(result, indent=1, ensure_ascii=False))
    else:
        write_report(args.folder)
    return 0


def write_report(folder):
    """Writes and prints the table, and draws the figure if matplotlib is installed.

    Returns what `table.build_table` gives.
    """
    runs = _read_runs(folder)
    result, png = table.build_table(runs), folder / FILES["png"]
    notes, figure = result["notes"], None
    try:
        figure = plot_table(result, runs)
    except ImportError as error:
        notes = [*notes, f"no figure: {error}"]
    try:
        write_json(folder / FILES["json"], result)
        write_text(folder / FILES["md"], table.to_markdown(result))
        # The figure of another table would contradict this one.
        png.unlink(missing_ok=True)
        if figure is not None:
            atomic_write(png, lambda path: figure.savefig(path, dpi=150))
    except OSError as error:
        raise UserError(
            f"{folder}: the table cannot be written: {error}. `keras-dtkd report "
            "--json` prints it without writing files."
        ) from None
    header, *rows = table.to_cells(result)
    console.print_table(header, rows, table.table_title(result))
    for note in notes:
        print(f"- {note}")
    written = [name for name in FILES.values() if (folder / name).exists()]
    print(f"{folder}: {', '.join(written)}")
    return result


def _read_runs(folder):
    paths = sorted(folder.rglob(run_dir.RUN_FILE))
    runs = [run_dir.read_run(path.parent) for path in paths]
    if not runs:
        raise UserError(f"{folder}: no run.json in this folder, at any depth.")
    return runs


def plot_table(result, runs):
    """Accuracy by row, mean ± std, and by epoch; `None` without a finished run."""
    rows, curves = {}, {}
    for row, (_, group) in zip(result["rows"], table.group_runs(runs), strict=True):
        if row["seeds"]:
            names = [name for name in result["varying"] if row[name] is not None]
            settings = [f"{name.replace('_', ' ')} {row[name]}" for name in names]
            label = ", ".join([f"{table.row_name(row)} {row['backend']}", *settings])
            label = _escape(label)
            finished = (
                r for r in table.dedupe_seeds(group) if r["status"] == "finished"
            )
            rows[label], curves[label] = row, [r["val_accuracy"] for r in finished]
    if not rows:
        return None
    figure = style.new_figure(12, max(4.5, 1.5 + 0.35 * len(rows)))
    left, right = figure.subplots(1, 2, width_ratios=(3, 4))
    colors = style.colors(rows)
    for height, (label, row) in enumerate(reversed(rows.items())):
        for which, offset, is_filled in (("last", -0.12, True), ("best", 0.12, False)):
            mean, std = row[which]["mean"], row[which]["std"]
            xerr, color = None if std is None else 100 * std, colors[label]
            marker = {"fmt": "o", "mfc": color if is_filled else "white", "capsize": 3}
            left.errorbar(100 * mean, height + offset, xerr=xerr, color=color, **marker)
    for name, accuracy in result.get("teachers", {}).items():
        left.axvline(100 * accuracy, color=style.GRAY, ls="--", lw=1)
        left.annotate(
            _escape(f"teacher {name}"),
            (100 * accuracy, len(rows) - 0.45),
            ha="right",
            va="top",
            rotation=90,
            color=style.GRAY,
            fontsize=8,
        )
    for which, face_color in (("best", "white"), ("last", style.GRAY)):
        left.plot([], [], "o", color=style.GRAY, mfc=face_color, label=f"{which} epoch")
    left.set_yticks(range(len(rows)), [*rows][::-1])
    left.set(xlabel="Test accuracy (%)", ylim=(-0.6, len(rows) - 0.4))
    left.set_title("Mean ± std over seeds", fontsize=11)
    left.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.06), ncols=2)
    left.grid(axis="x", alpha=0.3)
    style.despine(left)
    evaluated_on = {run["judged_on"] for run in runs if run["status"] == "finished"}
    images = evaluated_on.pop() if len(evaluated_on) == 1 else "validation or test"
    plots.training_curves(curves, f"{images} accuracy", ax=right)
    return figure


def _escape(text):
    """A text in which matplotlib finds no formulas."""
    return text.replace("$", r"\$")
