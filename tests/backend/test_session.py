"""A session around the runs of a model."""

import types

import pytest

from keras_dtkd import backend
from keras_dtkd.backend.base import SessionParts


def test_a_session_of_an_evaluation_walks_over_no_variables():
    def walk():
        pytest.fail("The session walked over the variables.")

    synced = []
    parts = SessionParts(
        variables=walk,
        trainable_variables=walk,
        metrics_variables=walk,
        optimizer=None,
        strategy=types.SimpleNamespace(num_replicas_in_sync=1),
        sync_variables=lambda: synced.append(True),
        is_training=False,
    )
    session = backend.new_session()
    with session.open(parts), session.all_reduced_metrics(walk, True):
        pass
    assert bool(synced) == (backend.backend_name() == "jax")
