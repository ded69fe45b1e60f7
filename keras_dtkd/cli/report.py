"""Writes the table and the figure of the run.json files in a folder."""

import json
from pathlib import Path

from keras_dtkd.cli import console, plot, run_dir, table
from keras_dtkd.cli.errors import UserError
from keras_dtkd.core.atomic_io import atomic_write, write_json, write_text

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
    """Writes and prints the table, and draws the figure if matplotlib is installed."""
    runs = _read_runs(folder)
    result, png = table.build_table(runs), folder / FILES["png"]
    notes, figure = result["notes"], None
    try:
        figure = plot.plot_table(result, runs)
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
    header, rows = table.to_cells(result)
    console.print_table(header, rows, table.table_title(result))
    for note in notes:
        print(f"- {note}")
    written = [name for name in FILES.values() if (folder / name).exists()]
    print(f"{folder}: {', '.join(written)}")


def _read_runs(folder):
    paths = sorted(folder.rglob(run_dir.RUN_FILE))
    runs = [run_dir.read_run(path.parent) for path in paths]
    if not runs:
        raise UserError(f"{folder}: no run.json in this folder, at any depth.")
    return runs
