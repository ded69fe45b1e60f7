"""A classifier of blocks that its classes share by attention."""

import keras
from keras import ops

from keras_dtkd.core.arguments import (
    check_choice,
    check_positive_int,
    check_positive_ints,
)
from keras_dtkd.core.arrays import to_numpy
from keras_dtkd.core.layer_tree import iter_layers, set_trainable_flags
from keras_dtkd.models.class_heads import ClassHeads
from keras_dtkd.models.layer_copies import copy_layer
from keras_dtkd.models.mixture_blocks import conv_block
from keras_dtkd.models.task_attention import TaskAttention

# Channels of the published blocks, by level.
PUBLISHED_FILTERS = 64, 64, 32
POOLINGS = "flatten", "average"


@keras.saving.register_keras_serializable("keras_dtkd")
class HierarchicalMixture(keras.Model):
    """KDExplainer's student: levels of blocks, mixed by attention, a head a class.

    The blocks of the first level take the input. Each block of another level takes a
    mix of the outputs of the level before, and each class a mix of those of the last,
    from which its head computes its logit. The attention of a mix does not depend on
    the input, see `TaskAttention`. `compute_attention` shows which blocks a class uses,
    and `harden` makes a tree of the strongest connections.

    It is a functional model with the layers `level1_block1`, ..., `attention1`, ...
    (from level 1 to level 2, ..., from the last level to the classes) and `logits`.

    Args:
        num_classes: Number of logits. At least 2.
        input_shape: Shape of an input, without the batch: `(32, 32, 3)` or `(64,)`.
        levels: Number of blocks in each level.
        block: A Keras layer, or a function that returns one, or a list of one for each
            level, of which copies are the blocks: `conv_block(64)`, `dense_block(32)`,
            or any other. Copies have new
            initial values: give initializers no seed. `None` for the published
            `conv_block` of 64 filters, and 32 in the last of three levels.
        heads: A Keras layer from features `(classes, batch, features)` to logits
            `(batch, classes)`. `None` for `ClassHeads()`.
        pooling: What makes features of maps: `"flatten"`, or `"average"`, the mean of
            each channel, for large maps. The authors' code pools to 7x7 adaptively,
            which repeats the pixels of a 4x4 map; to flatten gives the same functions.
        temperature, scale, entropy_weight, hard: Of all attentions, see
            `TaskAttention`.
        data_format: Of the maps that are pooled. `None` for
            `keras.config.image_data_format()`.
        **kwargs: `name`, `dtype` and `trainable`. `dtype` does not reach layers that
            are given.

    Call arguments:
        inputs: `(batch, *input_shape)`.

    Returns:
        Logits `(batch, num_classes)`, float32.

    Raises:
        TypeError: `block` or `heads` is no layer.
        ValueError: Another argument is invalid, or blocks of a level have outputs of
            several shapes.

    Reference:
        Xue et al., "KDExplainer: A Task-oriented Attention Model for Explaining
        Knowledge Distillation", arXiv 2105.04181. With the temperature
        10 / (epoch + 1), from epoch 0 (`callbacks.AttentionTemperature`), which the
        authors' code has; then `harden`, and training of the tree.

    Example:

    >>> mixture = HierarchicalMixture(100, (32, 32, 3))
    >>> temperature = callbacks.AttentionTemperature()
    >>> Distiller(teacher, mixture, KD()).fit(x, y, epochs=60, callbacks=[temperature])
    >>> tree = mixture.harden()
    >>> Distiller(teacher, tree, KD()).fit(x, y, epochs=30)
    """

    def __init__(
        self,
        num_classes,
        input_shape,
        levels=(2, 4, 8),
        block=None,
        heads=None,
        pooling="flatten",
        temperature=1.0,
        scale=0.5,
        entropy_weight=0.0,
        hard=False,
        data_format=None,
        name="hierarchical_mixture",
        dtype=None,
        trainable=True,
    ):
        caller = type(self).__name__
        if check_positive_int(caller, "num_classes", num_classes) == 1:
            raise ValueError(
                f"`{caller}`: `num_classes` must be at least 2: there is a logit for "
                "each class. Received: num_classes=1."
            )
        if not isinstance(levels, list | tuple) or not levels:
            raise ValueError(
                f"`{caller}`: `levels` must be a list of the number of blocks in each "
                f"level. Received: levels={levels!r}."
            )
        levels = check_positive_ints(caller, "levels", levels, len(levels))
        check_choice(caller, "pooling", pooling, POOLINGS)
        formats = "channels_last", "channels_first", None
        check_choice(caller, "data_format", data_format, formats)
        data_format = data_format or keras.config.image_data_format()
        # Of the blocks and heads that are made here; and of attentions and logits.
        policy = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
        shapes = len(levels), input_shape, data_format
        templates = _resolve_blocks(caller, block, *shapes, policy)
        if heads is None:
            heads = ClassHeads(dtype=policy)
        attention = {
            **{"temperature": temperature, "scale": scale, "hard": hard},
            **{"entropy_weight": entropy_weight, "dtype": policy},
        }

        inputs = keras.Input(input_shape, name="inputs")
        blocks, attentions = [], []
        values = levels[0] * [inputs]
        for level, template in enumerate(templates, start=1):
            names = [f"level{level}_block{n + 1}" for n in range(levels[level - 1])]
            blocks.append([copy_layer(template, each) for each in names])
            pairs = zip(blocks[-1], values, strict=True)
            values = [each(value) for each, value in pairs]
            if level == len(levels):
                # The mean of a mix is the mix of the means, and smaller.
                values = _pool(values, pooling, data_format, policy)
            children = [*levels, num_classes][level]
            attentions.append(
                TaskAttention(children, name=f"attention{level}", **attention)
            )
            mixes = attentions[-1](values)
            values = ops.unstack(mixes, children) if level < len(levels) else [mixes]
        outputs = copy_layer(_check_layer(caller, "heads", heads), "logits")(values[0])
        if tuple(outputs.shape) != (None, num_classes):
            raise ValueError(
                f"`{caller}`: `heads` must give logits (batch, {num_classes}). "
                f"Received: shape {tuple(outputs.shape)}."
            )
        super().__init__(
            inputs=inputs, outputs=outputs, name=name, trainable=trainable, dtype=policy
        )
        self.num_classes, self.levels = num_classes, levels
        self.blocks, self.attentions = blocks, attentions
        self.pooling, self.data_format = pooling, data_format

    def compute_attention(self):
        """The attention of each level, at its present temperature.

        Returns:
            A list of float32 NumPy arrays `(children, parents)`, rows of sum 1: from
            the first level to the second, ..., from the last to the classes.
        """
        return [to_numpy(attention.attention()) for attention in self.attentions]

    def find_dead_blocks(self):
        """The names of blocks that no class of the hardened tree depends on.

        They stay in the tree, and no gradient reaches them.
        """
        dead: list = []
        used = set(range(self.num_classes))
        # From the classes to the input.
        levels = zip(self.blocks, self.attentions, strict=True)
        for blocks, attention in reversed(list(levels)):
            choice = to_numpy(attention.theta).argmax(-1)
            used = {int(choice[child]) for child in used}
            names = [block.name for n, block in enumerate(blocks) if n not in used]
            dead = names + dead
        return dead

    def harden(self):
        """A new mixture with one-hot attention: each child has its strongest parent.

        Returns:
            A `HierarchicalMixture`, not compiled, with copies of all weights. Its
            attention is not trained. `find_dead_blocks` names its blocks without use.
        """
        # The layers themselves: their class may be one that no file can hold.
        config = {**self.get_config(), **self._templates(), "hard": True}
        tree = type(self).from_config(config)
        for source, target in zip(self.layers, tree.layers, strict=True):
            target.set_weights(source.get_weights())
        return tree

    def _templates(self):
        """The arguments that are layers."""
        blocks = [blocks[0] for blocks in self.blocks]
        return {"block": blocks, "heads": self.get_layer("logits")}

    def get_config(self):
        first = self.attentions[0]
        flags = [layer.trainable for layer in iter_layers(self.layers)]
        templates = keras.saving.serialize_keras_object(self._templates())
        return {
            **templates,
            "num_classes": self.num_classes,
            "input_shape": list(self.input_shape[1:]),
            "levels": list(self.levels),
            "pooling": self.pooling,
            "temperature": first.temperature,
            "scale": first.scale,
            "entropy_weight": first.entropy_weight,
            "hard": first.hard,
            "data_format": self.data_format,
            "name": self.name,
            "trainable": self.trainable,
            # Of every layer: a template has those of its level's first block alone.
            "trainable_flags": None if all(flags) else flags,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """The mixture of a configuration, with new weights."""

        def load(value):
            if isinstance(value, list):
                return [load(each) for each in value]
            if _is_layer(value):
                return value
            return keras.saving.deserialize_keras_object(value, custom_objects)

        config = dict(config)
        flags = config.pop("trainable_flags", None)
        for key in ("block", "heads", "dtype"):
            config[key] = load(config[key])
        model = cls(**config)
        if flags is not None:
            set_trainable_flags(iter_layers(model.layers), flags)
        return model


def _resolve_blocks(caller, block, count, input_shape, data_format, policy):
    """One layer for each level."""
    if block is None and len(input_shape) != 3:
        raise ValueError(
            f"`{caller}`: the default `block` is for images, and `input_shape` is "
            f"{tuple(input_shape)}. Give a `block`, such as `models.dense_block(32)`."
        )
    if block is None:
        filters = [*PUBLISHED_FILTERS[: count - 1], *count * [64]][: count - 1]
        filters.append(PUBLISHED_FILTERS[-1])
        block = [conv_block(f, data_format=data_format, dtype=policy) for f in filters]
    if not isinstance(block, list | tuple):
        block = count * [block]
    block = [b() if callable(b) and not _is_layer(b) else b for b in block]
    if len(block) != count:
        raise ValueError(
            f"`{caller}`: `block` must be one layer, or one for each of the {count} "
            f"levels. Received: {len(block)} layers."
        )
    return [_check_layer(caller, "block", each) for each in block]


def _is_layer(value):
    return isinstance(value, keras.layers.Layer)


def _check_layer(caller, name, value):
    if not _is_layer(value):
        raise TypeError(
            f"`{caller}`: `{name}` must be a Keras layer, such as "
            f"`models.{'conv_block()' if name == 'block' else 'ClassHeads()'}`. "
            f"Received: {name}={value!r}."
        )
    return value


def _pool(values, pooling, data_format, policy):
    """Features `(batch, features)` of the outputs of the last level."""
    rank = len(values[0].shape)
    options = {"data_format": data_format, "dtype": policy, "name": "pooling"}
    if rank == 2:
        return values
    if pooling == "flatten":
        layer = keras.layers.Flatten(**options)
    else:
        layers = keras.layers
        by_rank = {
            3: layers.GlobalAveragePooling1D,
            4: layers.GlobalAveragePooling2D,
            5: layers.GlobalAveragePooling3D,
        }
        layer = by_rank[rank](**options)
    return [layer(value) for value in values]
