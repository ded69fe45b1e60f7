"""The command `keras-dtkd compare`, from Python."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import keras


def compare(methods, student, teacher=None, *, output="runs", **options):
    """Trains methods with several seeds, and gives the table that compares them.

    As the command `keras-dtkd compare`, in a process of its own: its progress is
    printed, it may be interrupted at any moment, and the same call goes on. Needs the
    extra `cli`.

    Args:
        methods: Names of `methods()`, or losses of your own, `"my.py:Squared"`.
        student: Name of a network, or `"my.py:build"`, a function that is called as
            `build(input_shape, num_classes)`.
        teacher: Likewise. Needs `teacher_weights=`.
        output: Folder of all runs.
        **options: The command's options (docs/cli.md), with underscores:
            `data="digits"` (or `"folder:PATH"`), `seeds=3`, `epochs=24`,
            `teacher_weights=folder`, `backends=["jax"]`, `no_augment=True`.

    Returns:
        A dict: `rows` has one for each method and backend, with `best` and `last`, each
        of `mean`, `std` and `values` over the seeds; `notes`, what qualifies them;
        `folder`, where the runs, the table and its picture are.

    Raises:
        ValueError: The command refuses to start; the message is its own.
        RuntimeError: A run failed.

    Example:

    >>> table = recipes.compare(
    ...     ["ce", "kd", "my.py:Squared"], "resnet8", "resnet14", data="digits",
    ...     teacher_weights="runs/digits/resnet14/ce/jax-seed0", epochs=10,
    ... )
    """
    methods = [methods] if isinstance(methods, str) else list(methods)
    options = {"methods": methods, "student": student, "teacher": teacher, **options}
    arguments = []
    for name, value in options.items():
        if value is None or value is False:
            continue
        arguments.append(f"--{name.replace('_', '-')}")
        if value is not True:
            values = value if isinstance(value, list | tuple) else [value]
            arguments += map(str, values)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.json"
        process = subprocess.run(
            [
                *(sys.executable, "-m", "keras_dtkd.cli", "compare", *arguments),
                *("--output", str(output), "--json", str(path)),
            ],
            env={"KERAS_BACKEND": keras.config.backend(), **os.environ},
            stderr=subprocess.PIPE,
            text=True,
        )
        if process.returncode == 2:
            raise ValueError(process.stderr.strip().splitlines()[-1])
        if process.returncode:
            raise RuntimeError(
                "`recipes.compare`: a run failed; output.txt in its folder says why. "
                f"{process.stderr.strip()[-500:]}"
            )
        return json.loads(path.read_text(encoding="utf-8"))
