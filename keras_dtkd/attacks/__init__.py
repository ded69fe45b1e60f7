"""Inputs made to mislead a model, and how often it stands them."""

from keras_dtkd.attacks.di2_fgsm import di2_fgsm as di2_fgsm
from keras_dtkd.attacks.fgsm import fgsm as fgsm
from keras_dtkd.attacks.pgd import pgd as pgd
from keras_dtkd.attacks.robust_accuracy import Robustness as Robustness
from keras_dtkd.attacks.robust_accuracy import robust_accuracy as robust_accuracy
