"""Every public loss, temperature, view and teacher: a line each, with its exceptions.

tests/conformance/ runs the same promises over all of them. A class has a further line
where one of its forms computes something else. `build` takes further arguments of the
class and returns a new object each time.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import keras
import numpy as np

from keras_dtkd.losses import (
    CKD,
    CSKD,
    DIST,
    DKD,
    DTKD,
    KD,
    R2KD,
    BinaryKD,
    GeneralizedJSD,
    InputGradientAlignment,
    InputGradientPenalty,
    LogitMSE,
    TotalVariation,
)
from keras_dtkd.methods.rlkd import Policy
from keras_dtkd.teachers import Ensemble, ModelTeacher, Pruned, Stored
from keras_dtkd.temperatures import (
    Constant,
    CosineSimilarity,
    Curriculum,
    Dynamic,
    Scheduled,
    Standardized,
)
from keras_dtkd.views import CutMix, Cutout, Mixup, View
from tests import tiny_models

# What the authors' epsilon beside the norms leaves of the loss of equal models.
EPSILON = 5e-3


class Loss(NamedTuple):
    """A loss.

    Attributes:
        build: From arguments to the loss.
        shift_invariant: Whether a constant added to a sample's logits changes nothing.
        equal_models: Greatest value for equal models; `None` where that is no minimum.
        stops_gradient: Whether its gradient leaves out a part, by the method's design.
    """

    build: Callable
    shift_invariant: bool = True
    equal_models: float | None = 2e-5
    stops_gradient: bool = False


LOSSES = {
    "kd": Loss(KD),
    "kd_reverse_kl": Loss(partial(KD, divergence="reverse_kl")),
    "kd_jsd": Loss(partial(KD, divergence="jsd")),
    "dtkd": Loss(DTKD, equal_models=1e-4, stops_gradient=True),
    "dtkd_published": Loss(DTKD.published, shift_invariant=False, equal_models=1e-4),
    "dtkd_centered": Loss(partial(DTKD, rule="centered"), equal_models=1e-4),
    "dtkd_std": Loss(
        partial(DTKD, rule="std", stop_gradient="weight"),
        equal_models=1e-4,
        stops_gradient=True,
    ),
    "dkd": Loss(DKD, equal_models=1e-4),
    "dist": Loss(DIST, equal_models=EPSILON),
    "dist_unscaled": Loss(partial(DIST, scale_by_t2=False), equal_models=EPSILON),
    "cskd": Loss(CSKD, equal_models=EPSILON, stops_gradient=True),
    "cskd_fixed": Loss(partial(CSKD, temperatures=[2.0, 3.0]), equal_models=EPSILON),
    "r2kd": Loss(R2KD, equal_models=EPSILON),
    "r2kd_unranked": Loss(partial(R2KD, rank_temperature=None), equal_models=EPSILON),
    "gjsd": Loss(partial(GeneralizedJSD, beta=0.1)),
    "gjsd_continuous": Loss(partial(GeneralizedJSD, beta=0.9, convention="continuous")),
    "total_variation": Loss(partial(TotalVariation, temperature=4.0)),
    "logit_mse": Loss(LogitMSE, shift_invariant=False),
    "logit_mse_centered": Loss(partial(LogitMSE, centered=True)),
    "ckd": Loss(CKD, shift_invariant=False, equal_models=None),
    "ckd_unlabeled": Loss(
        partial(CKD, label_weight=0.0, mean_penalty=0.5), shift_invariant=False
    ),
    "ckd_centered": Loss(
        partial(
            CKD, label_weight=0.0, group_sizes=(2, 1), mean_penalty=0.5, centered=True
        )
    ),
    # One logit a label: a shift moves each label's probability.
    "binary_kd": Loss(BinaryKD, shift_invariant=False),
    "binary_kd_dynamic": Loss(
        lambda **kwargs: BinaryKD(**{"temperature": Dynamic(), **kwargs}),
        shift_invariant=False,
        stops_gradient=True,
    ),
    "input_gradient_alignment": Loss(InputGradientAlignment, shift_invariant=False),
    "input_gradient_alignment_batch": Loss(
        partial(InputGradientAlignment, norm="batch", labels="teacher"),
        shift_invariant=False,
    ),
    "input_gradient_alignment_correct": Loss(
        partial(InputGradientAlignment, squared=True, teacher_correct_only=True),
        shift_invariant=False,
    ),
    "input_gradient_alignment_jvp": Loss(
        partial(InputGradientAlignment, squared=True, estimator="jvp"),
        shift_invariant=False,
    ),
    "input_gradient_penalty": Loss(
        InputGradientPenalty, shift_invariant=False, equal_models=None
    ),
}


class Temperature(NamedTuple):
    """A temperature.

    Attributes:
        build: From arguments to the temperature.
        shift_invariant: Whether a constant added to a sample's logits changes nothing.
        has_gradient: Whether temperatures or weight have a gradient with respect to the
            models' logits.
        stops_gradient: Whether they depend on the logits in a way that has none.
        learns: Whether it has trainable weights.
    """

    build: Callable
    shift_invariant: bool = True
    has_gradient: bool = False
    stops_gradient: bool = False
    learns: bool = False


@keras.saving.register_keras_serializable("tests")
def cooling(epoch):
    return 8.0 / (1 + epoch)


TEMPERATURES = {
    "constant": Temperature(Constant),
    "cosine_similarity": Temperature(CosineSimilarity, stops_gradient=True),
    "curriculum": Temperature(Curriculum, learns=True),
    "curriculum_per_sample": Temperature(
        partial(Curriculum, per_sample=True, hidden=3),
        stops_gradient=True,
        learns=True,
    ),
    "dynamic": Temperature(Dynamic, stops_gradient=True),
    "dynamic_auto": Temperature(
        partial(Dynamic, min_temperature="auto"), stops_gradient=True
    ),
    "dynamic_max": Temperature(
        partial(Dynamic, rule="max", min_temperature=None),
        shift_invariant=False,
        has_gradient=True,
    ),
    "dynamic_centered": Temperature(
        partial(Dynamic, rule="centered", stop_gradient="weight"),
        has_gradient=True,
        stops_gradient=True,
    ),
    "dynamic_std": Temperature(
        partial(Dynamic, rule="std", stop_gradient=True), stops_gradient=True
    ),
    "policy": Temperature(partial(Policy, mode="shuffled"), stops_gradient=True),
    "scheduled": Temperature(partial(Scheduled, cooling)),
    "scheduled_cosine": Temperature(
        partial(Scheduled, keras.optimizers.schedules.CosineDecay(4.0, 10, 0.5))
    ),
    "standardized": Temperature(Standardized, has_gradient=True),
}


class ViewEntry(NamedTuple):
    """A view.

    Attributes:
        build: From arguments to the view.
        random: Whether it draws new random numbers for each batch.
    """

    build: Callable
    random: bool = True


VIEWS = {
    "mixup": ViewEntry(Mixup),
    "cutmix": ViewEntry(CutMix),
    "cutout": ViewEntry(Cutout),
    "view": ViewEntry(partial(View, keras.layers.Rescaling(-1.0)), random=False),
}


class TeacherEntry(NamedTuple):
    """A teacher.

    Attributes:
        build: From the scale of its logits to the teacher of `tiny_models.data()`.
    """

    build: Callable


def _model(scale=3.0):
    return tiny_models.teacher(scale=scale)


def _logits(scale=3.0):
    x, _ = tiny_models.data()
    return np.asarray(_model(scale).predict(x, verbose=0))


TEACHERS = {
    "model": TeacherEntry(lambda *scale: ModelTeacher(_model(*scale))),
    "ensemble": TeacherEntry(lambda *scale: Ensemble([_model(), _model(*scale)])),
    "pruned": TeacherEntry(lambda *scale: Pruned(_model(*scale), 0.1)),
    "stored": TeacherEntry(lambda *scale: Stored(_logits(*scale))),
}
