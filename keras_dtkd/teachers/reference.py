"""Holds a teacher where Keras neither tracks, saves nor trains it."""

from typing import Any

import keras
import numpy as np

from keras_dtkd.teachers.base import ProtocolTeacher
from keras_dtkd.teachers.fingerprint import verify_fingerprint
from keras_dtkd.teachers.model_teacher import ModelTeacher


class TeacherReference:
    """A Distiller's teacher, or what a loaded file holds of the next one.

    Attributes:
        teacher: The `Teacher`, or `None` after loading.
        expected_fingerprint: That of the teacher which a loaded state expects.
        expected_seeds: Random states to give the next teacher, NumPy; or `None`.
    """

    def __init__(self):
        self.teacher: Any = None
        self.expected_fingerprint = None
        self.expected_seeds = None
        self._cached_fingerprint = None

    def set(self, teacher):
        """Takes another teacher.

        Args:
            teacher: A `Teacher`.

        Raises:
            ValueError: A loaded state expects another one.
        """
        if self.expected_fingerprint is not None:
            verify_fingerprint(teacher.fingerprint(), self.expected_fingerprint)
        self.teacher = teacher
        self.forget_fingerprint()

    @property
    def given(self):
        """The teacher as the user gave it."""
        if type(self.teacher) is ModelTeacher:
            return self.teacher.model
        if isinstance(self.teacher, ProtocolTeacher):
            return self.teacher.wrapped
        return self.teacher

    def copy_random_states(self, seeds):
        """Copies of the teacher's random states, which advance in their place.

        Args:
            seeds: `keras.random.SeedGenerator`s of an earlier teacher, which are used
                again: Keras would go on to track them.

        Returns:
            At least one for each of the teacher's, in the state that a loaded file
            expects, if any.
        """
        states = [v.value for v in self.teacher.seed_variables]
        expected = self.expected_seeds or ()
        self.expected_seeds = None
        new = range(len(seeds), len(states))
        seeds = [*seeds, *(keras.random.SeedGenerator(0) for _ in new)]
        for seed, state in zip(seeds, expected or states, strict=False):
            # A copy: under JAX a step consumes the arrays of its state.
            seed.state.assign(np.array(keras.ops.convert_to_numpy(state)))
        return seeds

    def fingerprint(self, may_cache=False):
        """The teacher's fingerprint, or the one that a loaded file expects.

        Args:
            may_cache: Whether the teacher cannot change before `forget_fingerprint`:
                it is read once then.
        """
        if self.teacher is None:
            return self.expected_fingerprint
        if self._cached_fingerprint is not None:
            return self._cached_fingerprint
        fingerprint = self.teacher.fingerprint()
        if may_cache:
            self._cached_fingerprint = fingerprint
        return fingerprint

    def forget_fingerprint(self):
        """From now on the teacher may change."""
        self._cached_fingerprint = None

    def load(self, fingerprint, seeds):
        """Takes what a file holds of the teacher.

        Args:
            fingerprint: The fingerprint in it, or `None`.
            seeds: Random states in it, NumPy arrays.

        Raises:
            ValueError: The teacher that is here is another one.
        """
        if fingerprint is not None:
            if self.teacher is not None:
                verify_fingerprint(self.fingerprint(), fingerprint)
            self.expected_fingerprint = fingerprint
        self.expected_seeds = [np.asarray(seed) for seed in seeds] or None
