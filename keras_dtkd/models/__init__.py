"""Networks of the distillation literature, and loading of their weights."""

from keras_dtkd.models.class_heads import ClassHeads as ClassHeads
from keras_dtkd.models.hierarchical_mixture import (
    HierarchicalMixture as HierarchicalMixture,
)
from keras_dtkd.models.mixture_blocks import conv_block as conv_block
from keras_dtkd.models.mixture_blocks import dense_block as dense_block
from keras_dtkd.models.registry import MODEL_NAMES as MODEL_NAMES
from keras_dtkd.models.registry import get as get
from keras_dtkd.models.stories260k import LlamaTokenizer as LlamaTokenizer
from keras_dtkd.models.stories260k import llama_tiny as llama_tiny
from keras_dtkd.models.stories260k import stories260k as stories260k
from keras_dtkd.models.task_attention import TaskAttention as TaskAttention
from keras_dtkd.models.weights import load_sequential_npz as load_sequential_npz
from keras_dtkd.models.weights import load_torch as load_torch
