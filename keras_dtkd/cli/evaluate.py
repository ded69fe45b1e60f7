"""Evaluates a trained student: accuracy, cross-entropy, calibration."""

import json
from pathlib import Path

from keras_dtkd.cli import console, data, metrics, run_dir
from keras_dtkd.cli.errors import UserError, as_user_error


def add_arguments(parser):
    """Adds the options of the command."""
    add_student_arguments(parser)
    add = parser.add_argument
    # fmt: off
    add("--data", choices=data.NAMES, help="data set (default: that of the run)")
    add("--data-dir", type=Path, metavar="DIR",
        help="folder of TensorFlow Datasets (default: that of the run, if it exists)")
    add("--on", choices=("test", "validation", "train"), default="test",
        help="images of the run (default: test)")
    add("--json", action="store_true", help="print JSON only")
    # fmt: on


def add_student_arguments(parser):
    """Adds the options that select a student."""
    parser.add_argument("path", type=Path, help="the folder of a run, or a .keras file")
    parser.add_argument(
        "--epoch", choices=("last", "best"), default="last",
        help="student of a run; best needs a run with --validation",
    )  # fmt: skip


def run(args):
    """Runs the command."""
    file, run = find_student(args.path, args.epoch)
    settings = run.get("settings", {})
    data_name = args.data or settings.get("data")
    if data_name is None:
        raise UserError(f"{args.path} is not a run: name the data set with --data.")
    if args.on != "test" and not settings:
        raise UserError(f"--on {args.on} needs a run, and {args.path} is a file.")
    data_dir = run.get("paths", {}).get("data_dir")
    # That of the run may be on another machine.
    data_dir = Path(data_dir) if data_dir and Path(data_dir).is_dir() else None
    with as_user_error():
        images = data.load(
            data_name,
            args.data_dir or data_dir,
            validation=settings.get("validation") or 0.0,
            train_size=settings.get("train_size"),
        )
        model = metrics.load_model(file)
    part = getattr(images, args.on)
    if part is None:
        raise UserError(f"{args.path} was trained without --validation images.")
    shape, num_classes = model.input_shape[1:], model.output_shape[-1]
    if (shape, num_classes) != (images.shape, images.num_classes):
        raise UserError(
            f"{file} has inputs {shape} and {num_classes} classes, but {data_name} has "
            f"{images.shape} and {images.num_classes}."
        )
    values = metrics.evaluate_all(model, images, part)
    if args.json:
        print(json.dumps({"file": str(file), "on": args.on, **values}, indent=1))
        return 0
    rows = [[name.replace("_", " "), f"{value:.6g}"] for name, value in values.items()]
    console.print_table((f"{data_name}, {args.on}", "value"), rows, str(file))
    return 0


def find_student(path, epoch):
    """The file of a student and the content of its run.json, empty for a file."""
    if path.is_file() and path.suffix == ".keras":
        if epoch != "last":
            raise UserError(f"--epoch {epoch} needs a run, and {path} is a file.")
        return path, {}
    run = run_dir.read_run(path) if path.is_dir() else None
    if run is None:
        raise UserError(f"{path} is neither the folder of a run nor a .keras file.")
    if run["status"] != "finished":
        raise UserError(f"{path}: this run is not finished ({run['status']}).")
    if epoch == "best" and not run["settings"]["validation"]:
        raise UserError(
            f"{path} has the student of the last epoch only: it was trained without "
            "--validation images, on which a best epoch is chosen."
        )
    file = path / (run_dir.BEST_FILE if epoch == "best" else run_dir.STUDENT_FILE)
    if not file.exists():
        raise UserError(
            f"{file} is missing, although {path / run_dir.RUN_FILE} is that of a "
            "finished run. Copy it from where it was trained, or train the run again "
            "in an empty folder."
        )
    return file, run
