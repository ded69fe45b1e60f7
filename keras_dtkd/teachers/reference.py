"""Holds a teacher where Keras neither tracks, saves nor trains it."""

from typing import Any

import keras
import numpy as np

from keras_dtkd.teachers.base import ProtocolTeacher, Teacher
from keras_dtkd.teachers.inputs import with_inputs
from keras_dtkd.teachers.model_teacher import ModelTeacher

FINGERPRINT_KEY = "teacher_fingerprint"


class TeacherReference:
    """A Distiller's teacher, or what a loaded file holds of the next one.

    Attributes:
        teacher: The `Teacher`, or `None` after loading.
        expected_fingerprint: That of the teacher which a loaded state expects.
        expected_seeds: Random states to give the next teacher, NumPy; or `None`.
    """

    def __init__(self):
        self.teacher: Any = None
        self._original: Any = None
        self.expected_fingerprint = None
        self.expected_seeds = None
        self._cached_fingerprint = None
        self._fingerprint_of_last_fit = None

    def set(self, teacher, inputs=None):
        """Takes another `Teacher`, the one that a loaded state expects, if any.

        `inputs` are the Distiller's `teacher_inputs`.
        """
        verify_fingerprint(teacher, self.expected_fingerprint)
        self.teacher = with_inputs(teacher.copy_settings(), inputs)
        self._original = teacher
        self.forget_fingerprint()
        self._fingerprint_of_last_fit = None

    @property
    def given(self):
        """The teacher as the user gave it."""
        if type(self._original) is ModelTeacher:
            return self._original.model
        if isinstance(self._original, ProtocolTeacher):
            return self._original.wrapped
        return self._original

    def copy_random_states(self, seeds):
        """Copies of the teacher's random states, or those that a loaded file expects.

        `seeds`, the `keras.random.SeedGenerator`s of an earlier teacher, are used
        again: Keras would go on to track them.
        """
        states = [v.value for v in self.teacher.seed_variables]
        new = range(len(seeds), len(states))
        seeds = [*seeds, *(keras.random.SeedGenerator(0) for _ in new)]
        expected, self.expected_seeds = self.expected_seeds, None
        for seed, state in zip(seeds, expected or states, strict=False):
            # A copy: under JAX a step consumes the arrays of its state.
            seed.state.assign(np.array(keras.ops.convert_to_numpy(state)))
        return seeds

    def fingerprint(self, may_cache=False):
        """The teacher's fingerprint, or the one that a loaded file expects.

        It is read once if it `may_cache`, until `forget_fingerprint`.
        """
        if self.teacher is None:
            return self.expected_fingerprint
        fingerprint = self._cached_fingerprint or self.teacher.fingerprint()
        if may_cache:
            self._cached_fingerprint = fingerprint
        return fingerprint

    def forget_fingerprint(self):
        """From now on the teacher may change."""
        self._cached_fingerprint = None

    def verify_unchanged(self):
        """A `ValueError` where the teacher is not what it was when a `fit` last began.

        The fingerprint is kept until `forget_fingerprint`.
        """
        if type(self.teacher).fingerprint is Teacher.fingerprint:
            return
        before, now = self._fingerprint_of_last_fit, self.fingerprint(may_cache=True)
        if before not in (None, now):
            raise ValueError(
                "`Distiller.fit`: the teacher was changed in place since the last "
                f"`fit` began (fingerprint {before[:8]}…, now {now[:8]}…). Give it its "
                "weights back; or say that the change is meant: `distiller.teacher = "
                "teacher`."
            )
        self._fingerprint_of_last_fit = now

    def load(self, fingerprint, seeds):
        """Takes a teacher's fingerprint, or `None`, and random states from a file.

        A `ValueError` where it is not that of the teacher.
        """
        verify_fingerprint(self.teacher, fingerprint)
        self.expected_fingerprint = fingerprint or self.expected_fingerprint
        self.expected_seeds = [np.asarray(seed) for seed in seeds] or None


def verify_fingerprint(teacher, expected):
    """A `ValueError` where a saved state expects another teacher."""
    if teacher is None or expected is None:
        return
    fingerprint = teacher.fingerprint()
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
