"""A teacher's forward pass outside of training."""

import keras
import numpy as np
import pytest

from keras_dtkd import teachers
from tests.tiny_models import data, everything, teacher

pytestmark = pytest.mark.skipif(
    keras.config.backend() != "torch", reason="What is compiled under torch alone."
)


def test_store_compiles_a_teacher_that_runs_long(monkeypatch, tmp_path, capsys):
    from keras_dtkd.backend import torch_compiled_forward as module

    model, (x, _) = teacher(), data(40)
    before = everything(model)
    eager = teachers.store(model, x, tmp_path / "eager", verbose=0)
    monkeypatch.setattr(module, "compile_graph", lambda graph: graph)
    monkeypatch.setattr(module, "can_compile", lambda: True)
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    counting = model.layers[0].counts
    calls = counting["calls"]
    # The last batch is shorter.
    stored = teachers.store(model, x, tmp_path / "new", batch_size=12, verbose=0)
    assert "forward pass of the teacher is compiled" in capsys.readouterr().out
    assert counting["calls"] - calls <= 2 + 1
    ids = np.arange(40)
    values = [np.array(s.outputs(x, ids)) for s in (stored, eager)]
    np.testing.assert_allclose(*values, rtol=1e-5, atol=1e-6)
    assert everything(model) == before
