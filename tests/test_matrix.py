"""Every temperature works in every loss that takes one."""

import warnings

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller
from keras_dtkd.losses import (
    CSKD,
    DIST,
    DKD,
    DTKD,
    KD,
    R2KD,
    BinaryKD,
    GeneralizedJSD,
    TotalVariation,
)
from keras_dtkd.methods.rlkd import Policy
from keras_dtkd.temperatures import (
    CosineSimilarity,
    Curriculum,
    Dynamic,
    Scheduled,
    Standardized,
)
from tests.tiny_models import data, numbers, one_hot, same, student, teacher

X, Y = data(16)
LOSSES = {
    "kd": lambda t: KD(t),
    "jsd": lambda t: KD(t, "jsd"),
    "dtkd": lambda t: DTKD(t, warmup_epochs=0),
    "dtkd_std": lambda t: DTKD(t, rule="std", warmup_epochs=0),
    "dkd": lambda t: DKD(t, warmup_epochs=0),
    "dist": lambda t: DIST(t),
    "cskd": lambda t: CSKD(temperatures=(2.0, t)),
    "r2kd": lambda t: R2KD(t),
    "gjsd": lambda t: GeneralizedJSD(temperature=t),
    "tv": lambda t: TotalVariation(t),
}
RULES = {
    "a number": lambda: 3.0,
    "exact": lambda: Dynamic(),
    "max": lambda: Dynamic(rule="max", stop_gradient=False),
    "similarity": lambda: CosineSimilarity(),
    "standardized": lambda: Standardized(1.0),
    "curriculum": lambda: Curriculum(),
    "instance": lambda: Curriculum(per_sample=True),
    # One that learns has its own tests: it would compile three networks here.
    "policy": lambda: Policy(mode="shuffled"),
    "schedule": lambda: Scheduled(keras.optimizers.schedules.CosineDecay(4.0, 10, 0.5)),
}


def check(losses, names, path, head=None, target=Y):
    """Trains an epoch, saves, and goes on: as it is, and as it is loaded."""
    large = teacher(head)
    distiller = Distiller(large, student(head), losses())
    name = "binary_crossentropy" if head else "sparse_categorical_crossentropy"
    distiller.compile(keras.optimizers.SGD(0.01), name)
    options = {"batch_size": 16, "shuffle": False, "verbose": 0}
    with warnings.catch_warnings():
        # Four classes cap the confidence of standardized logits: true, and no news.
        warnings.simplefilter("ignore", UserWarning)
        logs = distiller.fit(X, target, epochs=1, **options).history
        distiller.save(path)
        loaded = keras.models.load_model(path)
        loaded.teacher = large
        for one in (distiller, loaded):
            one.fit(X, target, initial_epoch=1, epochs=2, **options)
    for name in names:
        assert np.isfinite(logs[name]).all() and logs[name][0] > 0, name
    assert np.isfinite(np.concatenate([w.ravel() for w in numbers(distiller)])).all()
    assert not same(distiller.student, student(head))
    # With it every learned temperature and every ramp.
    for one, other in zip(distiller.weights, loaded.weights, strict=True):
        values = [np.array(keras.ops.convert_to_numpy(w.value)) for w in (one, other)]
        assert np.array_equal(*values), (one.path, values)


@pytest.mark.invariant(number=8)
@pytest.mark.parametrize("rule", RULES)
def test_it_trains_in_every_loss_and_survives_saving(rule, tmp_path):
    check(
        lambda: {name: make(RULES[rule]()) for name, make in LOSSES.items()},
        LOSSES,
        tmp_path / "d.keras",
    )


@pytest.mark.invariant(number=8)
def test_every_loss_works_with_multilabel_outputs(tmp_path):
    check(
        lambda: {name: BinaryKD(make()) for name, make in RULES.items()},
        RULES,
        tmp_path / "d.keras",
        "sigmoid",
        one_hot(Y),
    )
