"""Evaluates a trained student: accuracy, cross-entropy, calibration."""

import json
from pathlib import Path

import keras

from keras_dtkd.cli import console, data, options, run_dir
from keras_dtkd.cli.errors import UserError, as_user_error
from keras_dtkd.core import logits
from keras_dtkd.core.logits import OutputKind
from keras_dtkd.core.user_code import is_reference, load_reference
from keras_dtkd.metrics import ExpectedCalibrationError


def add_arguments(parser):
    """Adds the options of the command."""
    add_student_arguments(parser)
    add = parser.add_argument
    # fmt: off
    add("--data", type=options.data_name, metavar="NAME",
        help="data set, or folder:PATH (default: that of the run)")
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
    # A run.json may come from anywhere: no code is run because it stands in one.
    parser.add_argument(
        "--student", type=options.code, metavar="FILE.py:NAME",
        help="your code that built it, where it has classes of your own",
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
    data_dir, saved = args.data_dir, run.get("paths", {}).get("data_dir")
    # That of the run may be on another machine.
    if data_dir is None and saved and Path(saved).is_dir():
        data_dir = Path(saved)
    validation, train_size = settings.get("validation"), settings.get("train_size")
    with as_user_error():
        size = settings.get("image_size") or data.IMAGE_SIZE
        images = data.load(data_name, data_dir, validation or 0.0, train_size, size)
        model = load_student(file, run, args.student)
    split = getattr(images, args.on)
    if split is None:
        raise UserError(f"{args.path} was trained without --validation images.")
    shape = get_image_shape(model)
    inputs = keras.KerasTensor((None, *shape))
    num_classes = model.compute_output_spec(inputs).shape[-1]
    if (shape, num_classes) != (images.shape, images.num_classes):
        raise UserError(
            f"{file} has inputs {shape} and {num_classes} classes, but {data_name} has "
            f"{images.shape} and {images.num_classes}."
        )
    values = evaluate_all(model, images, split)
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
    file = path / (run_dir.BEST_FILE if epoch == "best" else run_dir.STUDENT_FILE)
    if not file.exists():
        if epoch == "best" and run.get("judged_on") == "test":
            raise UserError(
                f"{path} was trained without --validation images, and has no best "
                "student. Leave out --epoch best."
            )
        raise UserError(
            f"{file} is missing: a run has it when it is finished (this one is "
            f"{run['status']}). Copy it from where it was trained, or train the run."
        )
    return file, run


def load_student(file, run, code):
    """The student in a file. `code` names a function of the user's that built it.

    `run` is the content of its run.json, or empty.
    """
    if code is not None:
        # Keras then finds the classes in it.
        load_reference(code)
    try:
        return data.load_network(file)
    except ValueError as error:
        name, hint = run.get("settings", {}).get("student"), ""
        if code is None and (name is None or is_reference(name)):
            hint = " Give --student my.py:build, by which it was built."
        raise UserError(f"{file} cannot be loaded: {error}{hint}") from error


def get_image_shape(model):
    """The shape of an image that a model was built for."""
    if hasattr(model, "input_shape"):
        return model.input_shape[1:]
    # A subclass.
    return tuple(model.get_build_config()["input_shape"])[1:]


def predict_logits(model, images, split):
    """Logits of a network that ends with logits or a softmax: float32, NumPy."""
    outputs = model.predict(data.sequential_batches(images, split), verbose=0)
    return recover_logits(outputs, logits.infer_output_kind(model))


def recover_logits(outputs, output_kind):
    """Logits of outputs, of which `output_kind` may be `None`: float32, NumPy."""
    if output_kind is None and logits.look_like_probabilities(outputs):
        output_kind = OutputKind.SOFTMAX
    if output_kind == OutputKind.SIGMOID:
        raise UserError(
            "this network ends with a sigmoid, which treats each class independently, "
            "but the metrics need one class per image. Give a network that ends with "
            "logits or a softmax."
        )
    recovered = logits.to_logits(outputs, output_kind or OutputKind.LOGITS)
    return keras.ops.convert_to_numpy(recovered)


def accuracy(model, images, split):
    """Top-1 accuracy on a split of the images."""
    return float((predict_logits(model, images, split).argmax(-1) == split[1]).mean())


def evaluate_all(model, images, split):
    """All metrics of the `evaluate` command."""
    z, labels = predict_logits(model, images, split), split[1]
    correct = z.argmax(-1) == labels
    metrics = {
        "cross_entropy": keras.metrics.SparseCategoricalCrossentropy(from_logits=True),
        "calibration_error": ExpectedCalibrationError(),
    }
    # Of five classes it is 1, and PyTorch has none of fewer.
    if z.shape[-1] > 5:
        top_5 = keras.metrics.SparseTopKCategoricalAccuracy(k=5)
        metrics = {"top_5_accuracy": top_5, **metrics}
    # Each update returns the result.
    values = {name: float(metric(labels, z)) for name, metric in metrics.items()}
    return {"images": len(labels), "accuracy": float(correct.mean()), **values}
