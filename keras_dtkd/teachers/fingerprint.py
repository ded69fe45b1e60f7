"""Fingerprints, which differ between teachers."""

import hashlib

import keras
import numpy as np

FINGERPRINT_KEY = "teacher_fingerprint"


def verify_fingerprint(fingerprint, expected):
    """Raises a `ValueError` where a saved state expects another teacher."""
    if fingerprint != expected:
        raise ValueError(
            "`Distiller`: this state was saved with another teacher (fingerprint "
            f"{expected[:8]}…, this one's is {fingerprint[:8]}…). Give the same "
            "teacher to go on; to train from another, make a new Distiller with this "
            "student."
        )


def write_fingerprint(store, fingerprint):
    """Writes a fingerprint, if any, beside the variables in a file."""
    if fingerprint is not None:
        store[FINGERPRINT_KEY] = np.frombuffer(fingerprint.encode(), "uint8")


def read_fingerprint(store):
    """The variables alone, and the fingerprint or `None`."""
    names = list(store.keys())
    if FINGERPRINT_KEY not in names:
        return store, None
    expected = bytes(np.asarray(store[FINGERPRINT_KEY], "uint8")).decode()
    return {name: store[name] for name in names if name != FINGERPRINT_KEY}, expected


def weights_fingerprint(model):
    """A digest of a model's weights: shapes, dtypes and bytes, in order.

    Args:
        model: A built `keras.Model`.

    Returns:
        32 hexadecimal digits. The names of layers do not matter, so the same model
        loaded again has the same fingerprint.
    """
    digest = hashlib.blake2b(digest_size=16)
    for weight in model.weights:
        value = np.ascontiguousarray(keras.ops.convert_to_numpy(weight.value))
        digest.update(f"{value.shape}{value.dtype.name}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()
