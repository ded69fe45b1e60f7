"""Writes a student for other programs, and compares what they will compute."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np

from keras_dtkd import backend
from keras_dtkd.cli import metrics
from keras_dtkd.cli.errors import UserError, as_user_error
from keras_dtkd.cli.evaluate import add_model, find

# Format: the end of its name, and the package that reads it.
FORMATS = {
    "keras": (".keras", "keras"),
    "tf_saved_model": ("_saved_model", "tensorflow"),
    "onnx": (".onnx", "onnxruntime"),
    "litert": (".tflite", "ai_edge_litert"),
}
# Images of normal random numbers, as normalised ones are, that are compared.
COUNT = 8
# Largest difference, in parts of the greatest output.
TOLERANCE = {"float32": 1e-3, "mixed_bfloat16": 5e-2, "mixed_float16": 1e-2}


class Unreadable(Exception):
    """No process reads what was written."""


def add_arguments(parser):
    """The options of the command."""
    add_model(parser)
    parser.add_argument("--format", choices=FORMATS, default="keras")
    parser.add_argument(
        "--to", type=Path, metavar="PATH", help="default: beside the student"
    )
    parser.add_argument(
        "--backend", choices=("tensorflow", "jax", "torch"), default=backend.backend_name(),
        help="which formats can be written depends on it",
    )  # fmt: skip


def run(args):
    """The command."""
    file, _ = find(args.path, args.epoch)
    suffix, reader = FORMATS[args.format]
    target = args.to or file.with_name(f"exported-{file.stem}{suffix}")
    if target.exists():
        raise UserError(f"{target} is there already. Give another --to, or remove it.")
    if args.format != "tf_saved_model" and target.suffix != suffix:
        raise UserError(f"--to {target}: the name of this format ends with {suffix}.")
    with as_user_error():
        model = metrics.load(file)
    shape = (COUNT, *model.input_shape[1:])
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    # Keras exports what was called before; under JAX `predict` does not count.
    model(x)
    expected = np.asarray(model.predict(x, verbose=0), "float32")
    _write(model, target, args.format)
    if importlib.util.find_spec(reader) is None:
        print(f"{target}: written, not checked: {reader}, which reads it, is not here")
        return 0
    try:
        found = _read(target, args.format, x)
    except Unreadable as error:
        print(f"{target}: written, and {reader} cannot read it: {error}")
        return 1
    difference = np.abs(found - expected).max() / np.abs(expected).max()
    good = difference <= TOLERANCE.get(model.dtype_policy.name, 1e-3)
    verdict = "the same network" if good else "NOT the same network"
    print(
        f"{target}: {verdict}: read by {reader}, its outputs differ by "
        f"{difference:.1e} of the greatest, on {COUNT} random inputs"
    )
    return 0 if good else 1


def _write(model, target, format):
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=target.parent).close()
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error}.") from None
    try:
        if format == "keras":
            model.save(target)
        else:
            model.export(str(target), format=format, verbose=False)
    except Exception as error:
        if target.is_dir():
            shutil.rmtree(target)
        target.unlink(missing_ok=True)
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(
            f"Keras {keras.__version__} on {backend.backend_name()} cannot write this network "
            f"as {format} here ({reason}). Try another --backend, or another --format."
        ) from error


def _read(target, format, x):
    """What a new process makes of these inputs."""
    with tempfile.TemporaryDirectory() as folder:
        inputs, outputs = Path(folder, "x.npy"), Path(folder, "y.npy")
        np.save(inputs, x)
        command = [sys.executable, "-m", "keras_dtkd.cli.runtime_check", format]
        environment = dict(os.environ, KERAS_BACKEND=backend.backend_name())
        if format == "tf_saved_model":
            environment["KERAS_BACKEND"] = "tensorflow"
        done = subprocess.run(
            [*command, str(target), str(inputs), str(outputs)],
            env=environment,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            reasons = done.stderr.strip().splitlines() or ["no reason given"]
            raise Unreadable(reasons[-1])
        return np.load(outputs)
