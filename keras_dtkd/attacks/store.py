"""Adversarial inputs, made once and kept with the data."""

import inspect
import json
import os
from pathlib import Path

import keras
import numpy as np

from keras_dtkd.attacks.attacked_detector import AttackedDetector
from keras_dtkd.attacks.attacked_model import AttackedModel
from keras_dtkd.attacks.pgd import di2_fgsm
from keras_dtkd.attacks.robust_accuracy import ATTACKS, resolve_attack
from keras_dtkd.attacks.threat_model import validate_inputs, validate_range
from keras_dtkd.core.arguments import accepts_argument
from keras_dtkd.core.arrays import take_rows, to_numpy
from keras_dtkd.core.atomic_io import (
    compute_file_digest,
    fsync,
    name_os_errors,
    write_json,
)
from keras_dtkd.core.fingerprint import digest_arrays, model_fingerprint
from keras_dtkd.core.stored_folder import (
    PROGRESS_FILE,
    check_file,
    complete_folder,
    fill_folder,
    read_folder,
    read_progress,
)

INPUTS_FILE, PARTIAL_FILE = "inputs.npy", "partial.npy"
# So many samples are lost at most when the process dies.
CHUNK_SIZE = 256


def store(
    model,
    x,
    y,
    path,
    epsilon,
    *,
    attack=di2_fgsm,
    dtype="float32",
    range=(0.0, 1.0),
    output=None,
    from_logits="auto",
    batch_size=128,
    seed=0,
    verbose="auto",
    **options,
):
    """Attacks a model at every input, and stores the results in a folder.

    May be interrupted at any moment: the same call resumes, and gives what an unbroken
    one gives. The same call again, when all is stored, runs nothing.

    Args:
        model, x, y, epsilon: As in `keras_dtkd.attacks.pgd`; `y` may be a detector's.
        path: The folder. Made where there is none.
        attack: `keras_dtkd.attacks.di2_fgsm`, `pgd` or `fgsm`, or its name; or a
            function of `(model, x, y, epsilon, **options)`, defined in a module, whose
            name is stored. It gets `range`, and an integer `seed`, if it takes them.
        dtype: Of the stored inputs, `"float32"`; or `"uint8"`, a quarter of the size:
            rounded to 256 steps from the lowest to the highest value of `range`.
            Inputs on these steps stay within an `epsilon` on them; others may leave it
            by half a step.
        range, output, from_logits, batch_size: As in `keras_dtkd.attacks.pgd`.
        seed: Integer seed of the attack.
        verbose: 0 for silence, 1 for a bar; `"auto"` is 1.
        **options: Further arguments of the attack: `steps=5, step_size=2 / 255`.

    Returns:
        As `load`.

    Raises:
        TypeError: The attack has no such option.
        ValueError: As in `keras_dtkd.attacks.pgd`; the folder holds inputs of another
            model, for other samples or of another attack, or is damaged; another
            process is writing into it.
        OSError: The folder cannot be written into, or the disk is full.

    Example:

    >>> adversarial = attacks.store(teacher, x, y, "adversarial", epsilon=8 / 255)
    >>> x = datasets.with_columns(x, adversarial=adversarial)
    """
    function, folder = resolve_attack("store", attack), Path(path)
    if dtype not in ("float32", "uint8") or (dtype == "uint8" and range is None):
        raise ValueError(
            "`store`: `dtype` must be 'float32', or 'uint8' with a `range`. Received: "
            f"dtype={dtype!r}, range={range!r}."
        )
    if not isinstance(seed, int):
        raise ValueError(
            "`store`: `seed` must be an integer, so that a run that was interrupted "
            f"resumes to the same inputs. Received: seed={seed!r}."
        )
    if not isinstance(model, keras.Model) or not model.built:
        raise ValueError(
            "`store`: `model` must be a built Keras model; call it on a batch first. "
            f"Received: {model!r}."
        )
    if accepts_argument(function, "range"):
        options["range"] = range
    if accepts_argument(function, "seed"):
        options["seed"] = seed
    metadata = {
        "model": model_fingerprint(model),
        "samples": digest_arrays(map(to_numpy, keras.tree.flatten((x, y)))),
        "attack": _name_attack(function),
        "output": _to_json(output),
        "from_logits": _to_json(from_logits),
        "options": _to_json(
            {"epsilon": epsilon, "dtype": dtype, "range": range, **options}
        ),
    }

    def store_missing():
        attacked = model
        if function in ATTACKS.values():
            inspect.signature(function).bind(model, x, y, epsilon, **options)
            build = AttackedDetector if isinstance(y, dict) else AttackedModel
            first = validate_inputs("store", x[:batch_size])
            attacked = build("store", model, first, output, from_logits, batch_size)
            _validate_chunks(attacked, x, y, range)
        config = function, attacked, epsilon, options
        _store_missing(folder, config, x, y, metadata, dtype, verbose)

    fill_folder(folder, metadata, store_missing)
    return load(folder, model)


def load(path, model):
    """The adversarial inputs that `store` wrote for a model.

    Args:
        path: The folder.
        model: The `keras.Model` that was attacked, such as the teacher.

    Returns:
        NumPy, of the shape of the inputs; float32, or uint8 if they were so stored. It
        is read from the disk where it is used: a column for `datasets.with_columns`.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It holds the inputs of another model, or is not complete.

    Example:

    >>> x = with_columns(x, adversarial=attacks.load("adversarial", teacher))
    """
    folder = Path(path)
    names = "model", "digest"
    metadata = read_folder(folder, names, "keras_dtkd.attacks.store")
    if metadata["model"] != model_fingerprint(model):
        raise ValueError(
            f"`load`: {folder} holds adversarial inputs of another model, or of this "
            "one with other weights. Store them again, in another folder."
        )
    check_file(folder / INPUTS_FILE, metadata["digest"])
    return np.load(folder / INPUTS_FILE, mmap_mode="r")


def _store_missing(folder, config, x, y, metadata, dtype, verbose):
    """Attacks what the folder does not hold yet."""
    partial, inputs = folder / PARTIAL_FILE, folder / INPUTS_FILE
    with name_os_errors(partial):
        # After the last sample the process may have died when the file was moved.
        if partial.is_file() or not inputs.is_file():
            done = read_progress(folder).get("done", 0) if partial.is_file() else 0
            mode = {"mode": "r+"} if done else {"mode": "w+", "shape": tuple(x.shape)}
            file = np.lib.format.open_memmap(partial, dtype=np.dtype(dtype), **mode)
            _fill(file, done, folder, config, x, y, metadata, verbose)
            fsync(partial)
            os.replace(partial, inputs)
    complete_folder(folder, {**metadata, "digest": compute_file_digest(inputs)})


def _validate_chunks(attacked, x, y, bounds):
    """Raises before the first step what an attack on a later sample would raise."""
    for start in range(0, len(x), CHUNK_SIZE):
        rows = slice(start, start + CHUNK_SIZE)
        inputs = validate_inputs("store", x[rows])
        validate_range("store", bounds, inputs)
        attacked.encode_labels(take_rows(y, rows), len(inputs))


def _fill(file, done, folder, config, x, y, metadata, verbose):
    """Attacks the samples from `done` on, and notes after each chunk how many are."""
    function, attacked, epsilon, options = config
    bar = keras.utils.Progbar(len(x), verbose=int(bool(verbose)), unit_name="sample")
    bar.update(done)
    while done < len(x):
        rows = slice(done, done + CHUNK_SIZE)
        chunk = dict(options)
        if "seed" in chunk:
            # A chunk does not depend on where another run was interrupted.
            chunk["seed"] = [chunk["seed"], done]
            if function not in ATTACKS.values():
                # A function of one's own may take one integer alone.
                state = np.random.SeedSequence(chunk["seed"]).generate_state(1)
                chunk["seed"] = int(state[0])
        arrays = to_numpy(x[rows]), take_rows(y, rows)
        inputs = function(attacked, *arrays, epsilon, **chunk)
        is_8bit = file.dtype == np.uint8
        bounds = metadata["options"]["range"]
        file[rows] = _to_uint8(inputs, bounds) if is_8bit else inputs
        file.flush()
        done = min(done + CHUNK_SIZE, len(x))
        write_json(folder / PROGRESS_FILE, {**metadata, "done": done})
        bar.update(done)


def _name_attack(function):
    """A name that is of this attack alone, or a `ValueError`."""
    for name, known in ATTACKS.items():
        if function is known:
            return name
    name = getattr(function, "__qualname__", "<unnamed>")
    if "<" in name:
        raise ValueError(
            "`store`: `attack` must be a function that is defined in a module: its "
            "name is stored. A lambda, a function within another and an object have "
            f"none. Received: attack={function!r}."
        )
    return f"{function.__module__}.{name}"


def _to_uint8(inputs, range):
    low, high = (np.asarray(bound, "float32") for bound in range)
    return np.clip(np.rint((inputs - low) / (high - low) * 255), 0, 255)


def _to_json(value):
    """Arguments as they are when read from a file again."""
    return json.loads(json.dumps(value, default=lambda v: np.asarray(v).tolist()))
