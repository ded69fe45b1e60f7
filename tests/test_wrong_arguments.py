"""Wrong arguments of `fit` and its like, beside the plain student.

Where the plain student raises, anything may be raised: what Keras says stays Keras's
to say. Where it does not, a Distiller trains too, or says in its own words why not.
"""

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller
from keras_dtkd.losses import KD
from tests.tiny_models import data, numbers, same, student, teacher

pytestmark = [
    pytest.mark.invariant(number=10),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
X, Y = data(32)
NAN = np.where(np.arange(32)[:, None] == 3, np.nan, X)


def generator():
    yield X, Y


# By the argument: functions, since an iterator is used up.
INPUTS = {
    "none": lambda: None,
    "empty list": lambda: [],
    "text": lambda: "text",
    "number": lambda: 3,
    "empty": lambda: X[:0],
    "object": object,
    "words": lambda: X.astype(str),
    "objects": lambda: X.astype(object),
    "complex": lambda: X.astype("complex64"),
    "one axis more": lambda: X[None],
    "one axis less": lambda: X[:, 0],
    "narrow": lambda: X[:, :3],
    "unknown name": lambda: {"a": X},
    "two inputs": lambda: [X, X],
    "a tuple of two": lambda: (X, X),
    "nan": lambda: NAN,
    "infinity": lambda: np.full_like(X, np.inf),
    "list of rows": lambda: X.tolist(),
    "integers": lambda: (100 * X).astype("int64"),
    "boolean": lambda: X > 0,
}
LABELS = {
    "empty list": lambda: [],
    "text": lambda: "text",
    "number": lambda: 3,
    "few": lambda: Y[:5],
    "words": lambda: Y.astype(str),
    "objects": lambda: Y.astype(object),
    "complex": lambda: Y.astype("complex64"),
    "one axis more": lambda: Y[None],
    "a column": lambda: Y[:, None],
    "nan": lambda: np.full(32, np.nan),
    "too large": lambda: Y + 100,
    "negative": lambda: -Y - 1,
    "unknown name": lambda: {"a": Y},
    "two": lambda: [Y, Y],
    "fractions": lambda: Y + 0.5,
    "boolean": lambda: Y > 0,
    "unsigned": lambda: Y.astype("uint8"),
    "list": lambda: Y.tolist(),
}
BATCHES = {
    "generator not called": lambda: generator,
    "no batch": lambda: iter(()),
    "none": lambda: iter([None]),
    "empty tuple": lambda: iter([()]),
    "five parts": lambda: iter([(X, Y, Y, Y, Y)]),
    "inputs alone": lambda: iter([X]),
    "a tuple of inputs": lambda: iter([(X,)]),
    "of no samples": lambda: iter([(X[:0], Y[:0])]),
    "text": lambda: iter(["text"]),
    "fewer labels": lambda: iter([(X, Y[:5])]),
    "a number": lambda: iter([3]),
    "list of pairs": lambda: [(X, Y)],
}
OPTIONS = {
    "batch_size": [0, -4, 16.0, "16", True, 10**9, np.int64(16), [16]],
    "epochs": [0, -1, "2", 1.5, None, np.int64(1)],
    "initial_epoch": [-1, "1", 5],
    "verbose": ["x", 7],
    "callbacks": ["x", [3], [None], keras.callbacks.Callback],
    "validation_split": [-0.1, 1.0, 1.5, "x", 0.5],
    "validation_data": [X, (X,), (), "x", 3, (X[:0], Y[:0]), (X, Y[:3]), (X[:, :2], Y)],
    "validation_freq": [0, "x", [1]],
    "sample_weight": ["x", 3, np.ones(9), -np.ones(32), np.full(32, np.nan)],
    "class_weight": [{0: -1.0}, "x", [1, 2], {}, {0: "x"}, {9: 1.0}],
    "steps_per_epoch": [0, -1, "x", 10**6],
    "shuffle": ["x", "batch"],
    "no_such_argument": [1],
}
CASES = {
    **{f"fit x {n}": ("fit", lambda v=v: (v(), Y), {}) for n, v in INPUTS.items()},
    **{f"fit y {n}": ("fit", lambda v=v: (X, v()), {}) for n, v in LABELS.items()},
    **{f"fit batches {n}": ("fit", lambda v=v: (v(),), {}) for n, v in BATCHES.items()},
    **{
        f"fit {name} {i}": ("fit", lambda: (X, Y), {name: value})
        for name, values in OPTIONS.items()
        for i, value in enumerate(values)
    },
    **{
        f"{method} x {n}": (method, lambda v=v: (v(), Y), {})
        for method in ("evaluate", "train_on_batch", "test_on_batch")
        for n, v in INPUTS.items()
    },
    **{
        f"{method} y {n}": (method, lambda v=v: (X, v()), {})
        for method in ("evaluate", "train_on_batch", "test_on_batch")
        for n, v in LABELS.items()
    },
    **{
        f"predict x {n}": ("predict", lambda v=v: (v(),), {}) for n, v in INPUTS.items()
    },
}


def compiled():
    small = student()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    small.compile("sgd", loss, metrics=["accuracy"])
    return small


def outcome(model, method, args, options):
    if method in ("fit", "evaluate", "predict"):
        options = {"verbose": 0, **options}
    try:
        getattr(model, method)(*args(), **options)
    except Exception as error:  # noqa: BLE001 - whatever it is
        return error
    return None


def test_there_are_enough():
    assert len(CASES) > 200


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_argument(case):
    method, args, options = CASES[case]
    plain = outcome(compiled(), method, args, options)
    d = Distiller(teacher(), compiled(), KD())
    before = numbers(d.student)
    found = outcome(d, method, args, options)
    if found is None:
        # An iterator of any kind is one of batches here; Keras takes generators alone.
        assert plain is None or case == "fit batches a tuple of inputs"
        return
    is_ours = str(found).startswith(("`Distiller", "Distiller"))
    assert is_ours or plain is not None, f"{type(found).__name__}: {found}"
    if is_ours:
        assert isinstance(found, ValueError | TypeError)
        assert same(before, d.student)
        assert str(found).count("\n") == 0 or plain is not None
