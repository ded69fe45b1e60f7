"""A copy of a model without its smallest weights."""

import numbers

import keras
import numpy as np

from keras_dtkd.core.layer_tree import iter_layers
from keras_dtkd.teachers.model_teacher import ModelTeacher


class Pruned(ModelTeacher):
    """A model less a share of its weights, as they are now; the model stays as it is.

    In each kernel the `round(rate · n)` weights of smallest `|w|` of its n are 0;
    of equal ones the first. Kernels are the weights whose name ends so, at any depth:
    of dense, convolutional (depthwise, separable), attention and recurrent layers.
    Biases, embeddings and normalizations are left alone. Nothing is trained after. It
    runs in inference mode, and its batch statistics are the model's, for good.

    Args:
        model: A built `keras.Model`: functional, sequential, or of a class of its own
            that can be made again from its configuration.
        rate: The share, in [0, 1).

    Attributes:
        model: The pruned copy.
        rate: The share.

    Raises:
        TypeError: `model` is no `keras.Model`.
        ValueError: `rate` is out of range; the model is not built, has no kernel, or
            cannot be copied.

    Reference:
        Kim et al., "Robustness-Reinforced Knowledge Distillation with Correlation
        Distance and Network Pruning", arXiv 2311.13934: rate 0.1, mixed with the model
        itself in an `Ensemble`. The authors' code (Seonghak35/R2KD) prunes
        convolutional and dense layers. It runs the copy in training mode: on each
        batch's statistics, while the running ones drift. Here they are frozen.

    Example:

    >>> Ensemble([teacher, Pruned(teacher, 0.1)], weights=[0.7, 0.3])  # as R2KD
    """

    def __init__(self, model, rate):
        if not isinstance(model, keras.Model):
            raise TypeError(
                "`Pruned`: `model` must be a `keras.Model`. Received: "
                f"{type(model).__name__}."
            )
        number = rate.item() if isinstance(rate, np.ndarray) and not rate.ndim else rate
        if not isinstance(number, numbers.Real) or not 0 <= float(number) < 1:
            raise ValueError(
                f"`Pruned`: `rate` must be a number in [0, 1). Received: rate={rate!r}."
            )
        super().__init__(_copy(model))
        self.rate = float(number)
        kernels = [v for v in self.model.weights if v.name.endswith("kernel")]
        if not kernels:
            raise ValueError(
                f"`Pruned`: `{model.name}` has no weights whose name ends in 'kernel', "
                "so there is nothing to prune."
            )
        for kernel in kernels:
            # On the host, and in its own dtype.
            values = np.array(keras.ops.convert_to_numpy(kernel), order="C")
            sizes = np.abs(values.astype("float64")).ravel()
            smallest = np.argsort(sizes, kind="stable")[: round(self.rate * sizes.size)]
            values.reshape(-1)[smallest] = 0
            kernel.assign(values)


def _copy(model):
    if not model.built:
        raise ValueError(
            f"`Pruned`: `{model.name}` is not built, so it has no weights to prune. "
            "Call it on a batch first."
        )
    try:
        preprocessor = getattr(model, "preprocessor", None)
        if preprocessor is not None:
            # A task of KerasHub, whose class prepares its inputs. Itself: a
            # configuration has no vocabulary.
            config = {**model.get_config(), "preprocessor": preprocessor}
            copy = type(model).from_config(config)
        elif isinstance(model, keras.Sequential) or getattr(model, "inputs", None):
            copy = keras.models.clone_model(model)
        else:
            # Keras would compile it too, as it clones, and make an optimizer.
            copy = type(model).from_config(model.get_config())
        if not copy.built:
            copy.build_from_config(model.get_build_config())
        lookups = [_find_lookups(each) for each in (model, copy)]
        for source, target in zip(*lookups, strict=True):
            if source.get_vocabulary() == target.get_vocabulary():
                # It was given to the constructor.
                continue
            target.set_vocabulary(source.get_vocabulary(include_special_tokens=False))
        copy.set_weights(model.get_weights())
    except Exception as error:
        raise ValueError(
            f"`Pruned`: `{model.name}` cannot be copied. Give its class a `get_config` "
            "that makes it again, or give a functional model. Keras raised: "
            f"{type(error).__name__}: {error}"
        ) from error
    for layer in iter_layers(copy):
        if isinstance(layer, keras.layers.Normalization):
            # It computes with what it derives from its weights.
            layer.finalize_state()
    return copy


def _find_lookups(model):
    """The layers with a vocabulary, which is none of their weights."""
    kinds = keras.layers.IntegerLookup | keras.layers.StringLookup
    kinds |= keras.layers.TextVectorization
    return [layer for layer in iter_layers(model) if isinstance(layer, kinds)]
