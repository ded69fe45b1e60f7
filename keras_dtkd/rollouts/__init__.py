"""Whose tokens a student is trained on: sequences, made inside of the training step."""

from keras_dtkd.rollouts.base import Rollout, RolloutResult
from keras_dtkd.rollouts.mixed import Data, Mixed
from keras_dtkd.rollouts.sampled import Student, Teacher
from keras_dtkd.rollouts.speculative import Speculative

__all__ = [
    "Data",
    "Mixed",
    "Rollout",
    "RolloutResult",
    "Speculative",
    "Student",
    "Teacher",
]
