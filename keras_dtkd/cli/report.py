"""Makes the table and the picture again from the run.json files of a folder."""

import json
from pathlib import Path

from keras_dtkd.cli import picture, record, table, terminal
from keras_dtkd.cli.refusal import Refused
from keras_dtkd.files import replace, write_json, write_text


def add_arguments(parser):
    """The options of the command."""
    parser.add_argument(
        "folder", type=Path, metavar="DIR", help="holds runs, at any depth"
    )
    parser.add_argument(
        "--json", action="store_true", help="print the table as JSON, and nothing else"
    )


def run(args):
    """The command."""
    made = report(args.folder)
    if args.json:
        print(json.dumps(made, indent=1, ensure_ascii=False))
    else:
        show(made, args.folder)
    return 0


def report(folder):
    """Writes report.md, report.json and, where there is matplotlib, report.png.

    Args:
        folder: Holds runs, at any depth.

    Returns:
        The table, see `table.make`.

    Raises:
        Refused: There is no run.
    """
    runs = [record.read(path.parent) for path in sorted(folder.rglob(record.RUN))]
    if not runs:
        raise Refused(f"{folder}: no run.json lies there, at any depth.")
    made = table.make(runs)
    write_json(folder / "report.json", made)
    write_text(folder / "report.md", table.markdown(made))
    try:
        figure = picture.draw(made, runs)
    except ImportError as error:
        return {**made, "notes": [*made["notes"], f"no picture: {error}"]}
    if figure is not None:
        replace(folder / "report.png", lambda path: figure.savefig(path, dpi=150))
    return made


def show(made, folder):
    """Prints a table and where its files are."""
    header, rows = table.cells(made)
    terminal.show(header, rows, table.title(made))
    for note in made["notes"]:
        print(f"- {note}")
    print(f"{folder}/report.md, report.json, report.png")
