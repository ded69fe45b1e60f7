"""Exports a student to another format and compares the outputs of both."""

import contextlib
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
from keras_dtkd.cli import options
from keras_dtkd.cli.errors import UserError, as_user_error
from keras_dtkd.cli.evaluate import (
    add_student_arguments,
    find_student,
    get_image_shape,
    load_student,
)
from keras_dtkd.core.layer_tree import iter_layers

# Inputs of standard normal numbers, similar to normalized images.
NUM_PROBES = 8
# Maximum difference, relative to the largest output, by a layer's compute dtype.
TOLERANCE = {"bfloat16": 5e-2, "float16": 1e-2}
READ_SAVED_MODEL = """
import sys, keras, numpy
layer = keras.layers.TFSMLayer(sys.argv[1], call_endpoint="serve")
# NumPy's files have no bfloat16.
outputs = keras.ops.cast(layer(numpy.load(sys.argv[2])), "float32")
numpy.save(sys.argv[3], keras.ops.convert_to_numpy(outputs))
"""


def _run_keras(path, x):
    return keras.saving.load_model(path, compile=False).predict(x, verbose=0)


def _run_saved_model(path, x):
    """In a process of its own: `TFSMLayer` needs Keras's TensorFlow backend."""
    with tempfile.TemporaryDirectory() as folder:
        inputs, outputs = Path(folder, "x.npy"), Path(folder, "y.npy")
        np.save(inputs, x)
        command = [sys.executable, "-c", READ_SAVED_MODEL, path, inputs, outputs]
        environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
        process = subprocess.run(
            command, env=environment, capture_output=True, text=True
        )
        if process.returncode:
            raise RuntimeError(process.stderr.strip() or "no error message")
        return np.load(outputs)


def _run_onnx(path, x):
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def _run_litert(path, x):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    (inputs,) = interpreter.get_input_details()
    (outputs,) = interpreter.get_output_details()
    results = []
    # Image by image: its shapes are fixed.
    for image in x:
        interpreter.set_tensor(inputs["index"], image[None])
        interpreter.invoke()
        results.append(interpreter.get_tensor(outputs["index"])[0])
    return np.stack(results)


# Format: suffix of the file name, and the package and function that run it.
FORMATS = {
    "keras": (".keras", "keras", _run_keras),
    "tf_saved_model": ("_saved_model", "tensorflow", _run_saved_model),
    "onnx": (".onnx", "onnxruntime", _run_onnx),
    "litert": (".tflite", "ai_edge_litert", _run_litert),
}


def add_arguments(parser):
    """Adds the options of the command."""
    add_student_arguments(parser)
    parser.add_argument("--format", choices=FORMATS, default="keras")
    parser.add_argument(
        "--to", type=Path, metavar="PATH", help="default: in the student's folder"
    )
    options.add_backend(parser, help="determines which formats can be written")


def run(args):
    """Runs the command."""
    file, run = find_student(args.path, args.epoch)
    suffix, package, read = FORMATS[args.format]
    target = args.to or file.with_name(f"exported-{file.stem}{suffix}")
    if target.exists():
        raise UserError(f"{target} already exists. Give another --to, or remove it.")
    if args.format != "tf_saved_model" and target.suffix != suffix:
        raise UserError(f"--to {target}: the name of this format ends with {suffix}.")
    with as_user_error():
        model = load_student(file, run, args.student)
    shape = (NUM_PROBES, *get_image_shape(model))
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    # Keras exports a model that was called; under JAX `predict` does not count.
    model(x)
    expected = np.asarray(model.predict(x, verbose=0), "float32")
    _write(model, target, args.format)
    if importlib.util.find_spec(package) is None:
        print(f"{target}: written, not checked: {package} is not installed")
        return 0
    try:
        outputs = np.asarray(read(target, x), "float32")
    except Exception as error:  # noqa: BLE001 - whatever the package raises
        lines = str(error).strip().splitlines() or [type(error).__name__]
        print(f"{target}: written, but {package} cannot read it: {lines[-1]}")
        return 1
    difference = np.abs(outputs - expected).max() / np.abs(expected).max()
    # A functional model has the policy of the process, and not that of its file.
    dtypes = {layer.compute_dtype for layer in iter_layers(model)}
    is_same = difference <= max(TOLERANCE.get(dtype, 1e-3) for dtype in dtypes)
    verdict = "the same network" if is_same else "NOT the same network"
    print(
        f"{target}: {verdict}: run by {package}, its outputs differ by "
        f"{difference:.1e} of the largest, on {NUM_PROBES} random inputs"
    )
    return 0 if is_same else 1


def _write(model, target, format):
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if format == "keras":
            model.save(target)
        else:
            model.export(str(target), format=format, verbose=False)
    except Exception as error:
        shutil.rmtree(target, ignore_errors=True)
        with contextlib.suppress(OSError):
            target.unlink()
        if isinstance(error, OSError):
            raise UserError(f"{target} cannot be written: {error}.") from None
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(
            f"Keras {keras.__version__} on {backend.backend_name()} cannot write this "
            f"network as {format} here ({reason}). Try another --backend, or another "
            "--format."
        ) from error
