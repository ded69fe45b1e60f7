"""Every public loss, temperature, view, teacher and metric, an entry each.

tests/conformance/ runs the same promises over all of them, with the exceptions that an
entry states. A class has a further entry for each form that computes something else.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import keras
import numpy as np

from keras_dtkd import views
from keras_dtkd.core.masking import attach_mask, get_mask
from keras_dtkd.losses import (
    CKD,
    CSKD,
    DIST,
    DKD,
    DTKD,
    FGD,
    KD,
    MGD,
    R2KD,
    RKD,
    AdversarialFeatures,
    AttentionMaps,
    AttentionTransfer,
    BinaryKD,
    ContrastiveFeature,
    DenseBoxKD,
    DenseClassKD,
    FeatureMSE,
    FitNet,
    GeneralizedJSD,
    HardLabels,
    HiddenStates,
    InputGradientAlignment,
    InputGradientPenalty,
    LogitMSE,
    SampledReverseKL,
    SimilarityPreserving,
    Swing,
    TotalVariation,
)
from keras_dtkd.methods.rlkd import Policy
from keras_dtkd.metrics import (
    Agreement,
    AttentionEntropy,
    CanaryExposure,
    DraftAcceptance,
    ExpectedCalibrationError,
    TargetNonTargetSplit,
    TeacherStudentKL,
    TemperatureStatistics,
)
from keras_dtkd.teachers import Ensemble, ModelTeacher, Pruned, Stored
from keras_dtkd.temperatures import (
    Constant,
    CosineSimilarity,
    Curriculum,
    Dynamic,
    Scheduled,
    Standardized,
)
from keras_dtkd.views import CutMix, Cutout, Mixup
from tests import oracles_detection, tiny_models

# What the authors' epsilon beside the norms leaves of the loss of equal models.
EPSILON = 5e-3


class Loss(NamedTuple):
    """A loss.

    Attributes:
        build: From arguments of the class to a new loss.
        wrong: Values that are refused, by argument. Numbers that may be changed,
            temperatures and warm-ups have theirs already.
        shift_invariant: Whether a constant added to a sample's logits changes nothing.
        equal_models: Greatest value for equal models; `None` where that is no minimum.
        stops_gradient: Whether its gradient leaves out a part, by the method's design.
        saturates: Whether its gradient vanishes for models that are far apart, or for
            some samples.
    """

    build: Callable
    wrong: dict = {}
    shift_invariant: bool = True
    equal_models: float | None = 2e-5
    stops_gradient: bool = False
    saturates: bool = False


@keras.saving.register_keras_serializable("tests")
def half_private(x):
    return 0.5


# Without noise: two calls give the same.
SWING = partial(Swing, privacy=half_private, noise=0.0, seed=0)
RAW_LOGITS = {"shift_invariant": False}
BY_EPSILON = {"equal_models": EPSILON, "saturates": True}
LOSSES = {
    "kd": Loss(KD, {"divergence": ["hellinger"]}),
    "kd_reverse_kl": Loss(partial(KD, divergence="reverse_kl"), saturates=True),
    "kd_jsd": Loss(partial(KD, divergence="jsd"), saturates=True),
    "dtkd": Loss(
        DTKD,
        {"rule": ["sharp"], "stop_gradient": ["weight"], "min_temperature": [5.0]},
        equal_models=1e-4,
        stops_gradient=True,
    ),
    "dtkd_published": Loss(DTKD.published, **RAW_LOGITS, equal_models=1e-4),
    "dtkd_centered": Loss(partial(DTKD, rule="centered"), equal_models=1e-4),
    "dtkd_std": Loss(
        partial(DTKD, rule="std", stop_gradient="weight"),
        {"stop_gradient": ["all"]},
        equal_models=1e-4,
        stops_gradient=True,
    ),
    "dkd": Loss(DKD, equal_models=1e-4),
    "dist": Loss(DIST, **BY_EPSILON),
    "dist_unscaled": Loss(partial(DIST, scale_by_t2=False), **BY_EPSILON),
    "cskd": Loss(CSKD, {"temperatures": [(), 4.0]}, **BY_EPSILON, stops_gradient=True),
    "cskd_fixed": Loss(partial(CSKD, temperatures=[2.0, 3.0]), **BY_EPSILON),
    "r2kd": Loss(R2KD, **BY_EPSILON),
    "r2kd_unranked": Loss(partial(R2KD, rank_temperature=None), **BY_EPSILON),
    "gjsd": Loss(
        partial(GeneralizedJSD, beta=0.1),
        {"beta": [-0.1, 1.5, float("nan"), "half"], "convention": ["trl"]},
        saturates=True,
    ),
    "gjsd_continuous": Loss(
        partial(GeneralizedJSD, beta=0.9, convention="continuous"), saturates=True
    ),
    "sampled_reverse_kl": Loss(
        SampledReverseKL, {"estimator": ["k2"]}, stops_gradient=True
    ),
    "sampled_reverse_kl_k3": Loss(
        partial(SampledReverseKL, estimator="k3"), saturates=True
    ),
    "hard_labels": Loss(HardLabels, equal_models=None),
    "total_variation": Loss(partial(TotalVariation, temperature=4.0), saturates=True),
    "swing": Loss(
        SWING,
        {
            **{"privacy": ["", None, 3], "student_temperature": [0.0, "own"]},
            **{"minimum": [0.0, 101.0], "maximum": [0.5]},
            **{"gamma": [0.0, float("nan")]},
        },
        equal_models=None,
    ),
    "swing_shared": Loss(
        partial(SWING, student_temperature="shared", scale_by_t2=True, gamma=2.0),
        equal_models=2e-4,
    ),
    "logit_mse": Loss(LogitMSE, **RAW_LOGITS),
    "logit_mse_centered": Loss(partial(LogitMSE, centered=True)),
    "ckd": Loss(
        CKD,
        {"group_sizes": [(0, 1), (1, 1, 1), (1.5, 1), 2]},
        **RAW_LOGITS,
        equal_models=None,
    ),
    "ckd_unlabeled": Loss(
        partial(CKD, label_weight=0.0, mean_penalty=0.5), **RAW_LOGITS
    ),
    "ckd_centered": Loss(
        partial(
            CKD, label_weight=0.0, group_sizes=(2, 1), mean_penalty=0.5, centered=True
        )
    ),
    # One logit a label: a shift changes each label's probability.
    "binary_kd": Loss(BinaryKD, **RAW_LOGITS),
    "binary_kd_dynamic": Loss(
        lambda **kwargs: BinaryKD(**{"temperature": Dynamic(), **kwargs}),
        **RAW_LOGITS,
        stops_gradient=True,
    ),
    "dense_class_kd": Loss(
        partial(DenseClassKD, output=None), {"power": [-1.0]}, **RAW_LOGITS
    ),
    "input_gradient_alignment": Loss(
        InputGradientAlignment,
        {"norm": ["l1"], "labels": ["student"], "estimator": ["vjp", "jvp"]},
    ),
    "input_gradient_alignment_batch": Loss(
        partial(InputGradientAlignment, norm="batch", labels="teacher")
    ),
    "input_gradient_alignment_correct": Loss(
        partial(InputGradientAlignment, squared=True, teacher_correct_only=True),
        saturates=True,
    ),
    "input_gradient_alignment_jvp": Loss(
        partial(InputGradientAlignment, squared=True, estimator="jvp")
    ),
    "input_gradient_penalty": Loss(
        InputGradientPenalty, {"norm": ["l1"]}, equal_models=None
    ),
}


# Of several outputs: see `tests/losses/test_dense_kd.py`.
BOX_LOSSES = {"dense_box_kd": Loss(DenseBoxKD)}


class FeatureLoss(NamedTuple):
    """A loss on features.

    Attributes:
        build: From arguments of the class to a new loss on the feature `"f"`.
        oracle: Its formula in `tests.oracles_features`.
        shape: Of a feature for it, without the batch.
        wrong: As a `Loss`'s.
        is_sequence: Whether that is a sequence of 3 positions.
        is_contrastive: Whether equal models have a loss.
        labels: Of each sample, by name, for a loss that needs a detector's.
    """

    build: Callable
    oracle: str
    shape: tuple
    wrong: dict = {}
    is_sequence: bool = False
    is_contrastive: bool = False
    labels: dict | None = None


def _on(cls, name="f", **defaults):
    return partial(cls, features=[name], **defaults)


class FixedWeights:
    """Sets a loss's trainable weights to those that its oracle has."""

    def build_pair(self, names, teacher_shape):
        super().build_pair(names, teacher_shape)
        for variable in self.trainable_variables:
            fixed = oracles_detection.fixed_weights(variable.shape)
            variable.assign(fixed.astype("float32"))


@keras.saving.register_keras_serializable("tests")
class FixedMGD(FixedWeights, MGD):
    """Drops nothing: samples are the same each time."""


@keras.saving.register_keras_serializable("tests")
class FixedFGD(FixedWeights, FGD):
    """For boxes in shares of the image."""


FEATURE_LOSSES = {
    "fitnet": FeatureLoss(_on(FitNet), "fitnet", (2, 2, 3), {"projector": ["linear"]}),
    "attention_transfer": FeatureLoss(
        _on(AttentionTransfer), "attention_transfer", (2, 3, 2), {"power": [0.0]}
    ),
    "similarity_preserving": FeatureLoss(
        _on(SimilarityPreserving), "similarity_preserving", (2, 2, 2)
    ),
    "rkd": FeatureLoss(_on(RKD), "rkd", (5,)),
    "contrastive_feature": FeatureLoss(
        _on(ContrastiveFeature), "contrastive", (2, 2, 5), is_contrastive=True
    ),
    "hidden_states": FeatureLoss(
        _on(HiddenStates), "fitnet", (3, 4), {"distance": ["l1"]}, is_sequence=True
    ),
    "hidden_states_cosine": FeatureLoss(
        _on(HiddenStates, distance="cosine"),
        "hidden_states_cosine",
        (3, 4),
        is_sequence=True,
    ),
    "attention_maps": FeatureLoss(
        _on(AttentionMaps, "f:weights"), "attention_maps", (2, 3, 3), is_sequence=True
    ),
    "feature_mse": FeatureLoss(
        _on(FeatureMSE, reduction="sum"),
        "feature_sum",
        (2, 2, 3),
        {"reduction": ["none"]},
    ),
    "mgd": FeatureLoss(
        _on(FixedMGD, mask_ratio=0.0),
        "mgd",
        (3, 2, 2),
        {"mask_ratio": [-0.1, 1.5], "reduction": ["none"]},
        is_contrastive=True,
    ),
    "fgd": FeatureLoss(
        _on(FixedFGD, bounding_box_format="rel_xyxy"),
        "fgd",
        (3, 4, 2),
        {
            **{"alpha": [-1.0], "temperature": [0.0], "reduction": ["none"]},
            "bounding_box_format": ["xyyx"],
        },
        labels=oracles_detection.LABELS,
    ),
    "adversarial_features": FeatureLoss(
        _on(AdversarialFeatures),
        "fitnet",
        (2, 2, 3),
        {"loss_type": ["huber"], "temperature": [0.0], "view": [None]},
    ),
    "adversarial_features_l1": FeatureLoss(
        _on(AdversarialFeatures, loss_type="l1", reduction="sum"),
        "feature_l1_sum",
        (2, 2, 3),
    ),
    "adversarial_features_cwd": FeatureLoss(
        _on(AdversarialFeatures, loss_type="cwd", temperature=2.0),
        "channel_wise",
        (2, 2, 3),
    ),
}


class Temperature(NamedTuple):
    """A temperature.

    Attributes:
        build: From arguments of the class to a new temperature.
        wrong: As a `Loss`'s.
        shift_invariant: Whether a constant added to a sample's logits changes nothing.
        has_gradient: Whether temperatures or weight have a gradient with respect to the
            models' logits.
        stops_gradient: Whether they depend on the logits in a way that has none.
        learns: Whether it has trainable weights.
    """

    build: Callable
    wrong: dict = {}
    shift_invariant: bool = True
    has_gradient: bool = False
    stops_gradient: bool = False
    learns: bool = False


@keras.saving.register_keras_serializable("tests")
def cooling(epoch):
    return 8.0 / (1 + epoch)


TEMPERATURES = {
    "constant": Temperature(Constant),
    "cosine_similarity": Temperature(
        CosineSimilarity,
        {"min_temperature": [0.0, 7.0], "max_temperature": [0.0, 1.0]},
        stops_gradient=True,
    ),
    "curriculum": Temperature(
        Curriculum,
        {
            **{"epochs": [0, "auto"], "initial_raw": [float("nan")], "hidden": [0]},
            **{"lambda_range": [1.0, (0.0, 0.5, 1.0), (0.0, -1.0)]},
        },
        learns=True,
    ),
    "curriculum_per_sample": Temperature(
        partial(Curriculum, per_sample=True, hidden=3, lambda_range=(0.1, 0.9)),
        stops_gradient=True,
        learns=True,
    ),
    "dynamic": Temperature(
        Dynamic,
        {
            **{"rule": ["sharp"], "stop_gradient": [False, "weight"]},
            **{"min_temperature": [0.0, 4.0]},
        },
        stops_gradient=True,
    ),
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
        partial(Dynamic, rule="std", stop_gradient=True),
        {"stop_gradient": [0, 1, "both"]},
        stops_gradient=True,
    ),
    "policy": Temperature(partial(Policy, mode="shuffled"), stops_gradient=True),
    "scheduled": Temperature(
        partial(Scheduled, schedule=cooling), {"schedule": [4.0, None, "cosine"]}
    ),
    "scheduled_cosine": Temperature(
        partial(
            Scheduled, schedule=keras.optimizers.schedules.CosineDecay(4.0, 10, 0.5)
        )
    ),
    "standardized": Temperature(Standardized, has_gradient=True),
}


class View(NamedTuple):
    """A view.

    Attributes:
        build: From arguments of the class to a new view.
        wrong: As a `Loss`'s.
        is_random: Whether it draws new random numbers for each batch.
    """

    build: Callable
    wrong: dict = {}
    is_random: bool = True


VIEWS = {
    "mixup": View(Mixup, {"alpha": [0.0, "much"]}),
    "cutmix": View(CutMix, {"alpha": [0.0, 1.5]}),
    "cutout": View(Cutout, {"side": [0.0, 1.5]}),
    "view": View(partial(views.View, keras.layers.Rescaling(-1.0)), is_random=False),
}


def _model(scale=3.0):
    return tiny_models.teacher(scale=scale, compiled=True)


def _logits(scale=3.0):
    return np.asarray(_model(scale).predict(tiny_models.data()[0], verbose=0))


# From the scale of its logits to a new teacher of `tiny_models.data()`.
TEACHERS = {
    "model": lambda *scale: ModelTeacher(_model(*scale)),
    "ensemble": lambda *scale: Ensemble([_model(), _model(*scale)]),
    "pruned": lambda *scale: Pruned(_model(*scale), 0.1),
    "stored": lambda *scale: Stored(_logits(*scale)),
}


class Metric(NamedTuple):
    """A metric.

    Attributes:
        build: From arguments of the class to a new metric.
        arguments: From labels, teacher's and student's logits to what it compares.
        wrong: As a `Loss`'s.
    """

    build: Callable
    arguments: Callable
    wrong: dict = {}


def _probabilities(logits):
    """Rows that sum to 1, with the mask of the logits."""
    probs, mask = keras.ops.softmax(keras.ops.cast(logits, "float32")), get_mask(logits)
    return probs if mask is None else attach_mask(probs, mask)


def _models(labels, teacher, student):
    return teacher, student


NO_TEMPERATURES = {"temperature": [0.0, -1, float("nan"), "warm"]}
METRICS = {
    "agreement": Metric(Agreement, _models),
    "attention_entropy": Metric(
        AttentionEntropy, lambda labels, teacher, student: (_probabilities(student),)
    ),
    "canary_exposure": Metric(
        CanaryExposure, lambda labels, teacher, student: (labels, student)
    ),
    "expected_calibration_error": Metric(
        ExpectedCalibrationError,
        lambda labels, teacher, student: (labels, student),
        {"bins": [0, 2.5, "15"], "from_logits": ["maybe"]},
    ),
    "teacher_student_kl": Metric(
        TeacherStudentKL, _models, {**NO_TEMPERATURES, "from_logits": ["maybe"]}
    ),
    "draft_acceptance": Metric(
        DraftAcceptance, _models, {**NO_TEMPERATURES, "from_logits": ["maybe"]}
    ),
    "target_non_target_split": Metric(
        TargetNonTargetSplit,
        lambda labels, teacher, student: (labels, (teacher, student)),
        NO_TEMPERATURES,
    ),
    "temperature_statistics": Metric(
        lambda temperature=None, **kwargs: TemperatureStatistics(
            temperature or Dynamic(rule="std"), **kwargs
        ),
        _models,
        {"temperature": ["warm"]},
    ),
}
