"""What the package promises about its imports and its version."""

import ast
import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import keras_dtkd

PACKAGE = Path(keras_dtkd.__file__).parent
BACKENDS = {"tensorflow", "jax", "jaxlib", "torch"}


def backends_loaded_by(module):
    code = f"import sys, json, {module}; print('\\n' + json.dumps(list(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "KERAS_BACKEND": keras.config.backend()},
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return BACKENDS & set(json.loads(run.stdout.splitlines()[-1]))


def imports(source):
    """Each module that `source` names in an import, and whether a function does it."""

    def visit(node, inside):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            # `from keras import src` imports keras.src.
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and _imports_by_name(node):
            names = [str(ast.literal_eval(node.args[0]))]
        elif isinstance(node, ast.Attribute) and ast.unparse(node) == "keras.src":
            # The attribute needs no import of its own.
            names = ["keras.src"]
        else:
            names = []
        yield from ((name.split("."), inside) for name in names)
        inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, inside)

    return list(visit(ast.parse(source), False))


def _imports_by_name(call):
    name = ast.unparse(call.func).split(".")[-1]
    literal = call.args and isinstance(call.args[0], ast.Constant)
    return name in {"import_module", "__import__"} and literal


def files():
    found = sorted(PACKAGE.rglob("*.py"))
    assert found
    return [
        (path.relative_to(PACKAGE), imports(path.read_text(encoding="utf-8")))
        for path in found
    ]


@pytest.mark.parametrize(
    "source, module, inside",
    [
        ("import torch.nn as nn", "torch.nn", False),
        ("from jax import numpy", "jax.numpy", False),
        ("if True:\n    import torch", "torch", False),
        ("def f():\n    import torch", "torch", True),
        ("class A:\n    def f(self):\n        import torch", "torch", True),
        ("importlib.import_module('jax.numpy')", "jax.numpy", False),
        ("from keras import src", "keras.src", False),
        ("keras.src.ops.numpy", "keras.src", False),
    ],
)
def test_the_scan_sees_every_way_to_import(source, module, inside):
    assert (module.split("."), inside) in imports(source)


def test_importing_it_loads_no_backend_but_the_one_of_keras():
    assert backends_loaded_by("keras_dtkd") == backends_loaded_by("keras")


def test_backends_are_imported_only_in_functions_of_two_folders():
    """TensorFlow Datasets and tf.data read for every backend."""
    may = {"backend": BACKENDS, "datasets": {"tensorflow"}}
    assert [
        f"{path}: {'.'.join(module)}"
        for path, found in files()
        for module, inside in found
        if module[0] in BACKENDS
        and not (inside and module[0] in may.get(path.parts[0], ()))
    ] == []


def test_only_public_keras_is_used():
    assert [
        f"{path}: {'.'.join(module)}"
        for path, found in files()
        for module, _ in found
        if module[:2] == ["keras", "src"]
    ] == []


def test_the_version_is_the_one_installed():
    try:
        installed = importlib.metadata.version("keras-dtkd")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("keras-dtkd runs from its source tree, without being installed.")
    assert keras_dtkd.__version__ == installed
