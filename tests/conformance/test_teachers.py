"""What every teacher promises."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd import Distiller
from keras_dtkd.losses import KD
from keras_dtkd.teachers import Teacher, resolve_teacher, with_sample_ids
from keras_dtkd.teachers.forward import run_teacher
from tests import tiny_models
from tests.registry import TEACHERS
from tests.tiny_models import CLASSES, data, student

X, Y = data()
OPTIONS = {"batch_size": 8, "shuffle": False, "verbose": 0}
EACH = pytest.mark.parametrize("name", TEACHERS)


def state(teacher):
    """Its variables and all of its models, byte for byte."""
    values = [ops.convert_to_numpy(v.value).tobytes() for v in teacher.variables]
    return values, [tiny_models.everything(model) for model in teacher.models]


def outputs_of(teacher):
    return np.array(ops.convert_to_numpy(run_teacher(teacher, with_sample_ids(X))))


@EACH
def test_it_is_a_teacher_with_every_member(name):
    teacher = TEACHERS[name]()
    assert isinstance(teacher, Teacher) and resolve_teacher(teacher) is teacher
    assert isinstance(teacher.needs_sample_ids, bool)
    assert teacher.num_samples in (None, len(X))
    assert teacher.output_kind in (None, "logits")
    assert teacher.model is None or teacher.model in teacher.models
    ids = [id(v) for v in teacher.variables]
    assert ids and len(set(ids)) == len(ids)
    assert {id(v) for v in teacher.seed_variables} <= set(ids)


@pytest.mark.invariant(number=9)
@EACH
def test_running_it_gives_the_same_outputs_and_changes_nothing(name):
    teacher = TEACHERS[name]()
    before = state(teacher)
    outputs = outputs_of(teacher)
    assert outputs.shape == (len(X), CLASSES) and np.isfinite(outputs).all()
    # Neither dropout nor the batch's statistics.
    assert np.array_equal(outputs_of(teacher), outputs)
    half = run_teacher(teacher, with_sample_ids(X[16:], np.arange(16, 32)))
    assert np.allclose(ops.convert_to_numpy(half), outputs[16:], atol=1e-5)
    assert state(teacher) == before


@EACH
def test_other_values_of_its_variables_replace_them_for_once(name):
    teacher = TEACHERS[name]()
    zeros = [ops.zeros_like(v.value) for v in teacher.variables]
    assert not np.any(
        ops.convert_to_numpy(run_teacher(teacher, with_sample_ids(X), zeros))
    )
    assert np.any(outputs_of(teacher))


@EACH
def test_its_fingerprint_changes_with_its_outputs(name):
    first = TEACHERS[name]().fingerprint()
    assert len(first) == 32 and int(first, 16) >= 0
    assert TEACHERS[name]().fingerprint() == first
    assert TEACHERS[name](1.0).fingerprint() != first


@pytest.mark.invariant(number=8)
@pytest.mark.invariant(number=9)
@EACH
def test_it_trains_stays_as_it_is_and_is_known_again_after_loading(name, tmp_path):
    teacher = TEACHERS[name]()
    before = state(teacher)
    distiller = Distiller(teacher, student(), KD())
    distiller.fit(X, Y, **OPTIONS)
    distiller.evaluate(X, Y, verbose=0)
    assert state(teacher) == before
    assert not tiny_models.same(distiller.student, student())
    owned = {id(v) for v in distiller.variables}
    assert not owned & {id(v) for v in teacher.variables}
    distiller.save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras")
    with pytest.raises(ValueError, match="another teacher.*fingerprint"):
        loaded.teacher = TEACHERS[name](1.0)
    loaded.teacher = TEACHERS[name]()
    for model in (distiller, loaded):
        model.fit(X, Y, **OPTIONS)
    assert tiny_models.same(distiller, loaded)
