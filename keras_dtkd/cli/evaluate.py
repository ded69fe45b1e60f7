"""Measures a trained student: accuracy, cross-entropy, calibration."""

import json
from pathlib import Path

from keras_dtkd.cli import console, data, metrics, run_dir
from keras_dtkd.cli.errors import UserError, as_user_error


def add_arguments(parser):
    """The options of the command."""
    add_model(parser)
    parser.add_argument("--data", choices=data.NAMES, help="of a run: its own")
    parser.add_argument(
        "--data-dir", type=Path, metavar="DIR",
        help="folder of TensorFlow Datasets (default: the run's, if it is there)",
    )  # fmt: skip
    parser.add_argument(
        "--on",
        choices=("test", "validation", "train"),
        default="test",
        help="which images of a run (default: test)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, nothing else")


def add_model(parser):
    """The options that name a student."""
    parser.add_argument("path", type=Path, help="the folder of a run, or a .keras file")
    parser.add_argument(
        "--epoch",
        choices=("last", "best"),
        default="last",
        help="which student of a run; there is a best one with --validation",
    )


def run(args):
    """The command."""
    file, run = find(args.path, args.epoch)
    settings = run.get("settings", {})
    data_name = args.data or settings.get("data")
    if data_name is None:
        raise UserError(f"{args.path} is no run: name the data set with --data.")
    if args.on != "test" and not settings:
        raise UserError(f"--on {args.on} is for a run, and {args.path} is none.")
    with as_user_error():
        parts = {name: settings.get(name) for name in ("validation", "train_size")}
        parts["validation"] = parts["validation"] or 0.0
        found = data.read(data_name, args.data_dir or _data_dir(run), **parts)
        model = metrics.load(file)
    part = getattr(found, args.on)
    if part is None:
        raise UserError(f"{args.path} was trained without --validation images.")
    shape, classes = model.input_shape[1:], model.output_shape[-1]
    if (shape, classes) != (found.shape, found.classes):
        raise UserError(
            f"{file} takes images {shape} and gives {classes} classes; {data_name} has "
            f"{found.shape} and {found.classes}."
        )
    measured = metrics.all_of(model, found, part)
    if args.json:
        print(json.dumps({"file": str(file), "on": args.on, **measured}, indent=1))
        return 0
    rows = [
        [name.replace("_", " "), f"{value:.6g}"] for name, value in measured.items()
    ]
    console.show((f"{data_name}, {args.on}", "value"), rows, str(file))
    return 0


def _data_dir(run):
    """The run's own, if it is on this machine."""
    named = run.get("paths", {}).get("data_dir")
    return Path(named) if named and Path(named).is_dir() else None


def find(path, epoch):
    """The file of a student, and what run.json says: nothing of a file alone.

    Raises:
        Refused: There is no such student.
    """
    if path.is_file() and path.suffix == ".keras":
        if epoch != "last":
            raise UserError(f"--epoch {epoch} is for a run, and {path} is none.")
        return path, {}
    run = run_dir.read(path) if path.is_dir() else None
    if run is None:
        raise UserError(f"{path} is neither the folder of a run nor a .keras file.")
    if run["status"] != "finished":
        raise UserError(f"{path}: this run is not finished ({run['status']}).")
    if epoch == "best" and not run["settings"]["validation"]:
        raise UserError(
            f"{path} keeps its last student only: it chose no epoch on --validation "
            "images."
        )
    file = path / (run_dir.BEST if epoch == "best" else run_dir.STUDENT)
    if not file.exists():
        raise UserError(
            f"{file} is not there, though {path / run_dir.RUN} tells of a finished run. "
            "Copy it from where it was trained, or train the run again in an empty "
            "folder."
        )
    return file, run
