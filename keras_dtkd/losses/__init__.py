"""Distillation losses, one per file."""

from keras_dtkd.losses.adversarial_features import (
    AdversarialFeatures as AdversarialFeatures,
)
from keras_dtkd.losses.attention_maps import AttentionMaps as AttentionMaps
from keras_dtkd.losses.attention_transfer import AttentionTransfer as AttentionTransfer
from keras_dtkd.losses.base import DistillationLoss as DistillationLoss
from keras_dtkd.losses.base import LossValues as LossValues
from keras_dtkd.losses.binary_kd import BinaryKD as BinaryKD
from keras_dtkd.losses.ckd import CKD as CKD
from keras_dtkd.losses.contrastive_feature import (
    ContrastiveFeature as ContrastiveFeature,
)
from keras_dtkd.losses.cskd import CSKD as CSKD
from keras_dtkd.losses.dense_box_kd import DenseBoxKD as DenseBoxKD
from keras_dtkd.losses.dense_class_kd import DenseClassKD as DenseClassKD
from keras_dtkd.losses.dist import DIST as DIST
from keras_dtkd.losses.dkd import DKD as DKD
from keras_dtkd.losses.dtkd import DTKD as DTKD
from keras_dtkd.losses.feature_base import FeatureLoss as FeatureLoss
from keras_dtkd.losses.feature_mse import FeatureMSE as FeatureMSE
from keras_dtkd.losses.fgd import FGD as FGD
from keras_dtkd.losses.fitnet import FitNet as FitNet
from keras_dtkd.losses.generalized_jsd import GeneralizedJSD as GeneralizedJSD
from keras_dtkd.losses.hard_labels import HardLabels as HardLabels
from keras_dtkd.losses.hidden_states import HiddenStates as HiddenStates
from keras_dtkd.losses.input_gradient_alignment import (
    InputGradientAlignment as InputGradientAlignment,
)
from keras_dtkd.losses.input_gradient_penalty import (
    InputGradientPenalty as InputGradientPenalty,
)
from keras_dtkd.losses.kd import KD as KD
from keras_dtkd.losses.keras_adapter import (
    KerasDistillationLoss as KerasDistillationLoss,
)
from keras_dtkd.losses.logit_mse import LogitMSE as LogitMSE
from keras_dtkd.losses.mgd import MGD as MGD
from keras_dtkd.losses.output_bias import (
    calibrate_output_bias as calibrate_output_bias,
)
from keras_dtkd.losses.r2kd import R2KD as R2KD
from keras_dtkd.losses.rkd import RKD as RKD
from keras_dtkd.losses.sampled_reverse_kl import SampledReverseKL as SampledReverseKL
from keras_dtkd.losses.similarity_preserving import (
    SimilarityPreserving as SimilarityPreserving,
)
from keras_dtkd.losses.swing import Swing as Swing
from keras_dtkd.losses.temperature_loss import TemperatureLoss as TemperatureLoss
from keras_dtkd.losses.total_variation import TotalVariation as TotalVariation
