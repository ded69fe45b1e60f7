"""Makes the table and the picture again from the run.json files of a folder."""

import json
from pathlib import Path

from keras_dtkd.cli import console, plot, run_dir, table
from keras_dtkd.cli.errors import UserError
from keras_dtkd.core.atomic_io import atomic_write, write_json, write_text

FILES = {kind: f"report.{kind}" for kind in ("md", "json", "png")}


def add_arguments(parser):
    """The options of the command."""
    parser.add_argument(
        "folder", type=Path, metavar="DIR", help="holds runs, at any depth"
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print the table as JSON, and do nothing else: no file is written",
    )


def run(args):
    """The command."""
    if args.json:
        made = table.make(_runs(args.folder))
        print(json.dumps(made, indent=1, ensure_ascii=False))
    else:
        show(report(args.folder), args.folder)
    return 0


def report(folder):
    """Writes report.md, report.json and, where there is matplotlib, report.png.

    Args:
        folder: Holds runs, at any depth.

    Returns:
        The table, see `table.make`.

    Raises:
        Refused: There is no run, or nothing can be written there.
    """
    runs = _runs(folder)
    made, missing = table.make(runs), []
    try:
        figure = plot.draw(made, runs)
    except ImportError as error:
        figure, missing = None, [f"no picture: {error}"]
    try:
        write_json(folder / FILES["json"], made)
        write_text(folder / FILES["md"], table.markdown(made))
        if figure is None:
            # One of another table would contradict this one.
            (folder / FILES["png"]).unlink(missing_ok=True)
        else:
            atomic_write(
                folder / FILES["png"], lambda path: figure.savefig(path, dpi=150)
            )
    except OSError as error:
        raise UserError(
            f"{folder}: the table cannot be written there: {error}. "
            "`keras-dtkd report --json` prints it and writes nothing."
        ) from None
    return {**made, "notes": [*made["notes"], *missing]}


def _runs(folder):
    runs = [run_dir.read(path.parent) for path in sorted(folder.rglob(run_dir.RUN))]
    if not runs:
        raise UserError(f"{folder}: no run.json lies there, at any depth.")
    return runs


def show(made, folder):
    """Prints a table and where its files are."""
    header, rows = table.cells(made)
    console.show(header, rows, table.title(made))
    for note in made["notes"]:
        print(f"- {note}")
    written = [name for name in FILES.values() if (folder / name).exists()]
    print(f"{folder}: {', '.join(written)}")
