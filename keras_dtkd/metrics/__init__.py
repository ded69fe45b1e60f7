"""Metrics: student against teacher, what a student gives away, detections."""

from keras_dtkd.metrics.agreement import Agreement as Agreement
from keras_dtkd.metrics.attention_entropy import AttentionEntropy as AttentionEntropy
from keras_dtkd.metrics.canary_exposure import CanaryExposure as CanaryExposure
from keras_dtkd.metrics.canary_exposure import score_candidates as score_candidates
from keras_dtkd.metrics.coco_ap import coco_ap as coco_ap
from keras_dtkd.metrics.draft_acceptance import DraftAcceptance as DraftAcceptance
from keras_dtkd.metrics.expected_calibration_error import (
    ExpectedCalibrationError as ExpectedCalibrationError,
)
from keras_dtkd.metrics.target_non_target_split import (
    TargetNonTargetSplit as TargetNonTargetSplit,
)
from keras_dtkd.metrics.teacher_student_kl import TeacherStudentKL as TeacherStudentKL
from keras_dtkd.metrics.temperature_statistics import (
    TemperatureStatistics as TemperatureStatistics,
)
