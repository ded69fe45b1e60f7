"""What a run.json may hold. It is input: a copied folder may come from anywhere."""

import json
import re

from keras_dtkd.cli.errors import UserError

MAX_BYTES = 10_000_000
# What a terminal takes for more than text: control characters, ends of lines, changes
# of the direction of writing; and what UTF-8 cannot hold.
UNSAFE = r"\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
# A path may have every other character: Markdown, `rich` and matplotlib get it escaped.
TEXT = {
    "type": ["string", "null"],
    # Longer than any path.
    "maxLength": 5000,
    "pattern": f"^[^{UNSAFE}]*$",
}
NAME = {**TEXT, "type": "string"}
NUMBER = {"type": "number", "minimum": -1e18, "maximum": 1e18}
OPTIONAL_NUMBER = {**NUMBER, "type": ["number", "null"]}
COUNT = {"type": "integer", "minimum": 0, "maximum": 10**15}
SCALAR = {"anyOf": [TEXT, OPTIONAL_NUMBER, {"type": "boolean"}]}
SHARE = {"type": "number", "minimum": 0, "maximum": 1}


def _object(properties=None, required=(), others=SCALAR):
    return {
        "type": "object",
        "properties": properties or {},
        "required": list(required),
        "additionalProperties": others,
        "propertyNames": TEXT,
        "maxProperties": 200,
    }


# Arguments of a loss may hold those of its temperatures.
VALUE = {
    "anyOf": [
        SCALAR,
        {"type": "array", "items": {"$ref": "#/$defs/value"}, "maxItems": 1000},
        _object(others={"$ref": "#/$defs/value"}),
    ]
}
PART = _object(
    {"class": TEXT, "arguments": {"type": "object"}}, ["class", "arguments"], VALUE
)
RECIPE = _object(
    {
        "source": TEXT,
        "distillation_losses": _object(others=PART),
        "views": _object(others=PART),
    },
    ["distillation_losses"],
    VALUE,
)
SETTINGS = _object(
    {
        "seed": COUNT,
        "data": NAME,
        "backend": NAME,
        "student": NAME,
        "teacher": TEXT,
        "image_size": COUNT,
        "validation": SHARE,
        "epochs": COUNT,
        "method": NAME,
    },
    ["method", "backend", "seed", "teacher", "student", "validation"],
)
SESSION = _object(
    {
        "versions": _object(others=TEXT),
        "environment": _object(others=TEXT),
        "command": {"type": "array", "items": TEXT, "maxItems": 1000},
        "wall_seconds": NUMBER,
        "peak_memory_bytes": OPTIONAL_NUMBER,
        "peak_device_memory_bytes": OPTIONAL_NUMBER,
    }
)
EPOCH = _object({"epoch": COUNT, "accuracy": SHARE}, ["epoch", "accuracy"])
RESULT = _object(
    {"best": EPOCH, "last": EPOCH, "step_seconds": OPTIONAL_NUMBER},
    ["best", "last", "step_seconds"],
)
FINISHED = ["result", "recipe", "sessions", "parameters", "val_accuracy", "judged_on"]
SCHEMA = {
    **_object(
        {
            "status": {"enum": ["planned", "running", "failed", "finished"]},
            "settings": SETTINGS,
            "recipe": RECIPE,
            "paths": _object(others=TEXT),
            "code": _object(others=TEXT),
            "sessions": {"type": "array", "items": SESSION, "maxItems": 10_000},
            "error": {"type": "array", "items": TEXT, "maxItems": 100, "minItems": 1},
            "epochs_done": COUNT,
            "parameters": COUNT,
            "teacher_accuracy": SHARE,
            "judged_on": {"enum": ["validation", "test"]},
            "val_accuracy": {"type": "array", "items": SHARE, "maxItems": 100_000},
            "result": RESULT,
        },
        ["status", "settings", "recipe"],
        VALUE,
    ),
    "if": {"properties": {"status": {"const": "finished"}}},
    "then": {"required": FINISHED},
    "$defs": {"value": VALUE},
}


def parse_run(path):
    """The content of a run.json. Raises `UserError` for anything else."""
    import jsonschema

    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES / 1e6:.0f} MB")
        run = json.loads(path.read_text(encoding="utf-8"), parse_constant=_reject)
        validator = jsonschema.Draft202012Validator(SCHEMA)
        error = jsonschema.exceptions.best_match(validator.iter_errors(run))
    except (ValueError, RecursionError) as problem:
        raise UserError(
            f"{path} is not valid: {str(problem)[:200]}. Restore it from a copy, or "
            "remove its folder to start again."
        ) from None
    if error is None:
        return run
    where = "/".join(map(str, error.absolute_path))
    found = error.message if len(error.message) < 200 else f"{error.message[:200]}…"
    raise UserError(
        f"{path} is not that of a run of keras-dtkd{' at ' + where if where else ''}: "
        f"{found!r}. Move it, or restore it from a copy."
    )


def _reject(constant):
    raise ValueError(f"{constant} is no number")


def is_safe(text):
    """Whether a run.json may hold this text."""
    return re.search(f"[{UNSAFE}]", text) is None


def remove_control_characters(text):
    """A line of output as text for a run.json and a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)
