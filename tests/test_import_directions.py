"""Dependencies point one way, as DESIGN's layers have them, and never in a circle."""

import ast
import graphlib
from pathlib import Path

import pytest

import keras_dtkd

PACKAGE = Path(keras_dtkd.__file__).parent
# A folder may import from those of a lower level alone.
LEVELS = {
    "functional": 0,
    "core": 1,
    "backend": 2,
    "datasets": 2,
    "layers": 2,
    "attacks": 3,
    "distribution": 3,
    "models": 3,
    "teachers": 3,
    "rollouts": 3,
    "students": 3,
    "temperatures": 3,
    "views": 3,
    "losses": 4,
    "metrics": 4,
    "callbacks": 5,
    "plots": 5,
    "validation": 5,
    "training": 6,
    "preparation": 7,
    "distiller": 8,
    "diagnostics": 9,
    "methods": 9,
    "recipes": 10,
    "cli": 11,
}


def module_name(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in PACKAGE.rglob("*.py")}


def imported_modules(name, nodes):
    """Modules of the package that a module's import statements name."""
    for node in nodes:
        if not isinstance(node, ast.ImportFrom) or not node.module:
            continue
        for alias in node.names:
            full = f"{node.module}.{alias.name}"
            found = full if full in MODULES else node.module
            if found in MODULES and found != name:
                yield found


def tree_of(name):
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def folder_of(name):
    return name.split(".")[1] if "." in name else name


@pytest.mark.parametrize("folder", LEVELS)
def test_a_folder_imports_from_lower_levels_only(folder):
    wrong = [
        f"{name} imports {found}"
        for name in MODULES
        if folder_of(name) == folder
        for found in imported_modules(name, ast.walk(tree_of(name)))
        if found not in ("keras_dtkd", "keras_dtkd._version")
        and folder_of(found) != folder
        and LEVELS[folder_of(found)] >= LEVELS[folder]
    ]
    assert not wrong


def test_every_folder_has_a_level():
    folders = {folder_of(name) for name in MODULES} - {"keras_dtkd", "_version"}
    assert folders == set(LEVELS)


def test_no_modules_import_each_other_in_a_circle():
    # What a function imports is there when it is called.
    graph = {
        name: {
            found
            for found in imported_modules(name, tree_of(name).body)
            # A package's `__init__` imports its modules for the user.
            if not name.startswith(found + ".")
        }
        for name in MODULES
    }
    list(graphlib.TopologicalSorter(graph).static_order())


def test_the_root_of_the_package_holds_three_modules():
    names = sorted(path.name for path in PACKAGE.glob("*.py"))
    assert names == ["__init__.py", "_version.py", "distiller.py"]


def test_the_distiller_has_one_class_of_ours_below_keras_model():
    import keras

    classes = keras_dtkd.Distiller.__mro__
    between = classes[1 : classes.index(keras.Model)]
    ours = [c for c in between if c.__module__.startswith("keras_dtkd")]
    assert [c.__name__ for c in ours] == ["HyperparameterMixin"]
