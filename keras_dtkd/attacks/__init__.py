"""Adversarial attacks, and the accuracy of a model under them."""

from keras_dtkd.attacks.pgd import di2_fgsm as di2_fgsm
from keras_dtkd.attacks.pgd import fgsm as fgsm
from keras_dtkd.attacks.pgd import pgd as pgd
from keras_dtkd.attacks.robust_accuracy import Robustness as Robustness
from keras_dtkd.attacks.robust_accuracy import robust_accuracy as robust_accuracy
from keras_dtkd.attacks.store import load as load
from keras_dtkd.attacks.store import store as store
