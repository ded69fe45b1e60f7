"""Small models and data, and tests of whether they changed."""

import keras
import numpy as np

from keras_dtkd import Distiller
from keras_dtkd.losses import KD

FEATURES, CLASSES = 6, 4


@keras.saving.register_keras_serializable("tests")
class Counting(keras.layers.Layer):
    """Returns its input and counts how often Python ran it."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.counts = {"calls": 0}
        self.built = True

    def call(self, inputs):
        self.counts["calls"] += 1
        return inputs + 0.0


def data(samples=32, classes=CLASSES, seed=0):
    """Inputs, and the integer labels that `teacher()` gives all of them."""
    x = np.random.default_rng(seed).normal(size=(samples, FEATURES)).astype("float32")
    return x, x[:, :classes].argmax(-1)


def one_hot(y, classes=CLASSES):
    return np.eye(classes, dtype="float32")[y]


def teacher(head=None, classes=CLASSES, dtype=None, compiled=False, scale=3.0):
    """A teacher that is always right, with all that inference mode must silence."""
    model = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            Counting(dtype=dtype),
            keras.layers.Dense(2 * FEATURES, activation="relu", dtype=dtype),
            keras.layers.BatchNormalization(dtype=dtype),
            keras.layers.Dropout(0.5, seed=7, dtype=dtype),
            keras.layers.Dense(classes, activation=head, dtype=dtype),
        ],
        name="teacher",
    )
    eye = np.eye(FEATURES)
    first, _, last = model.layers[1], model.layers[2], model.layers[-1]
    first.set_weights([np.hstack([eye, -eye]), np.zeros(2 * FEATURES)])
    both = np.vstack([eye, -eye])[:, :classes]
    last.set_weights([scale * both, np.zeros(classes)])
    if compiled:
        # Its optimizer has a state, and one layer is frozen.
        first.trainable = False
        before = model.get_weights()
        model.compile("adam", "mse")
        model.train_on_batch(np.ones((4, FEATURES)), np.ones((4, classes)))
        model.set_weights(before)
    return model


def student(
    head=None, classes=CLASSES, seed=1, dropout=0.0, norm=False, dtype=None, width=8
):
    """A student with the same weights in every call; optimizer left open."""
    layers = [
        keras.Input((FEATURES,)),
        keras.layers.Dense(
            width,
            activation="tanh",
            kernel_initializer=keras.initializers.GlorotUniform(seed),
            dtype=dtype,
        ),
    ]
    if norm:
        layers.append(keras.layers.BatchNormalization(dtype=dtype))
    if dropout:
        layers.append(keras.layers.Dropout(dropout, seed=seed, dtype=dtype))
    layers.append(
        keras.layers.Dense(
            classes,
            activation=head,
            kernel_initializer=keras.initializers.GlorotUniform(seed + 1),
            dtype=dtype,
        )
    )
    return keras.Sequential(layers, name="student")


def two_outputs(kind, seed=1, loss=None):
    """A model with the outputs `label` (logits) and `size` (a number)."""
    inputs = keras.Input((FEATURES,))
    hidden = keras.layers.Dense(
        8, activation="tanh", kernel_initializer=keras.initializers.GlorotUniform(seed)
    )(inputs)
    label = keras.layers.Dense(
        CLASSES,
        name="label",
        kernel_initializer=keras.initializers.GlorotUniform(seed + 1),
    )(hidden)
    size = keras.layers.Dense(
        1,
        name="size",
        kernel_initializer=keras.initializers.GlorotUniform(seed + 2),
    )(hidden)
    outputs = {"label": label, "size": size} if kind == "dict" else [label, size]
    return keras.Model(inputs, outputs, name="two_outputs")


def sequence(seed=1, mask_zero=True, classes=3):
    """Token ids `(batch, time)` to logits `(batch, time, classes)`; 0 is padding."""

    def start(i):
        return keras.initializers.GlorotUniform(seed + i)

    return keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(
                9, 5, mask_zero=mask_zero, embeddings_initializer=start(0)
            ),
            keras.layers.Dense(classes, kernel_initializer=start(1)),
        ]
    )


def distiller(losses=None, optimizer="sgd", **kwargs):
    """A small Distiller, compiled with SGD by default."""
    d = Distiller(
        kwargs.pop("teacher", None) or teacher(),
        kwargs.pop("student", None) or student(),
        KD() if losses is None else losses,
        **kwargs,
    )
    if optimizer is not None:
        d.compile(
            optimizer=optimizer,
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
    return d


def layers_of(model):
    """The layers at every depth."""
    for layer in getattr(model, "layers", []):
        yield layer
        yield from layers_of(layer)


def everything(model):
    """All about a model that a user would miss: equal if nothing changed."""
    optimizer = getattr(model, "optimizer", None)
    variables = list(model.variables) + (optimizer.variables if optimizer else [])
    return {
        "variables": [
            (v.path, keras.ops.convert_to_numpy(v.value).tobytes()) for v in variables
        ],
        "layers": [
            (layer.name, layer.trainable, layer.built, sorted(vars(layer)))
            for layer in [model, *layers_of(model)]
        ],
        "trainable": [(v.path, v.trainable) for v in model.variables],
    }


def numbers(model):
    """The weights as NumPy, copied: torch would share them."""
    return [np.array(w, "float32") for w in model.get_weights()]


def close(a, b, tolerance=1e-6):
    """Whether two models or lists of arrays are equal within a tolerance."""
    a, b = (v if isinstance(v, list) else numbers(v) for v in (a, b))
    return len(a) == len(b) and all(
        np.allclose(u, v, rtol=tolerance, atol=tolerance)
        for u, v in zip(a, b, strict=True)
    )


def same(a, b):
    """Whether two models or lists of arrays are equal in every bit."""
    a, b = (v if isinstance(v, list) else numbers(v) for v in (a, b))
    return len(a) == len(b) and all(
        np.array_equal(u, v) for u, v in zip(a, b, strict=True)
    )
