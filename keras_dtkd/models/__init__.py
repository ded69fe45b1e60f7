"""CIFAR networks of the distillation literature, and loading of their weights."""

from keras_dtkd.models.registry import MODEL_NAMES as MODEL_NAMES
from keras_dtkd.models.registry import get as get
from keras_dtkd.models.stories260k import LlamaTokenizer as LlamaTokenizer
from keras_dtkd.models.stories260k import llama_tiny as llama_tiny
from keras_dtkd.models.stories260k import stories260k as stories260k
from keras_dtkd.models.weights import load_sequential_npz as load_sequential_npz
from keras_dtkd.models.weights import load_torch as load_torch
