"""A student cut from its teacher: some of its layers, with their weights."""

import inspect

import keras

from keras_dtkd.core.arguments import check_positive_int
from keras_dtkd.core.layer_tree import iter_layers


def from_layers(teacher, every=2, layers=None):
    """A copy of a KerasHub model with fewer transformer layers, weights taken over.

    Args:
        teacher: A KerasHub `Backbone`, or a task with one, such as a `CausalLM` or a
            `TextClassifier`. It is left as it is.
        every: Every how many-th layer is kept, from the first. DistilBERT has 2.
        layers: The layers to keep instead, by number from 0, as in `[0, 5, 11]`.

    Returns:
        A model of the same class, which shares no weights with its teacher; a task has
        its preprocessor. Embeddings, norms and the task's own layers are copied too.
        KerasHub compiles its tasks by itself: compile it as for a `fit` of its own.

    Raises:
        ValueError: A model that is no KerasHub model or has no transformer layers of
            one kind; layers that it does not have, or all of them.

    Reference:
        Sanh et al., "DistilBERT", arXiv 1910.01108, section 3; Muralidharan et al.,
        "Compact Language Models via Pruning and Knowledge Distillation" (Minitron),
        arXiv 2407.14679, depth pruning, which leaves out contiguous layers.

    Example:

    >>> student = students.from_layers(teacher, every=2)
    >>> Distiller(teacher, student, [KD(), HiddenStates(pairs)]).fit(x, y)
    """
    backbone = getattr(teacher, "backbone", teacher)
    everything = iter_layers(teacher)
    adapted = [each.name for each in everything if getattr(each, "lora_enabled", False)]
    if adapted:
        raise ValueError(
            f"`from_layers`: the teacher has LoRA, as in {adapted[0]!r}. Save and load "
            "it first, which adds the adapters to the weights."
        )
    blocks = _find_blocks(backbone)
    kept = _choose_layers(len(blocks), every, layers)
    config = {**backbone.get_config(), "num_layers": len(kept)}
    for name, value in config.items():
        # What is given layer by layer.
        if isinstance(value, list | tuple) and len(value) == len(blocks):
            config[name] = [value[number] for number in kept]
    parameters = inspect.signature(type(backbone)).parameters
    if "tie_word_embeddings" in parameters:
        # KerasHub leaves it out of some configurations.
        config["tie_word_embeddings"] = backbone.token_embedding.tie_weights
    student = small = type(backbone).from_config(config)
    _copy_layers([blocks[number] for number in kept], _find_blocks(small))
    _copy_others(backbone, small, blocks, _find_blocks(small))
    if teacher is not backbone:
        # Themselves: a configuration has neither weights nor a vocabulary.
        parts = {"backbone": small, "preprocessor": teacher.preprocessor}
        student = type(teacher).from_config({**teacher.get_config(), **parts})
        _copy_others(teacher, student, [backbone], [student.backbone])
    return student


def _find_blocks(backbone):
    """The transformer layers of a KerasHub backbone, in order."""
    name = getattr(backbone, "name", type(backbone).__name__)
    config = backbone.get_config() if hasattr(backbone, "get_config") else {}
    count = config.get("num_layers")
    lists = [
        value
        for value in vars(backbone).values()
        if isinstance(value, list | tuple)
        and len(value) == count
        and all(isinstance(each, keras.layers.Layer) for each in value)
        and len({type(each) for each in value}) == 1
    ]
    lists = list({tuple(map(id, value)): value for value in lists}.values())
    if len(lists) != 1:
        raise ValueError(
            f"`from_layers`: {name!r} cannot be cut: it has {len(lists)} lists of "
            "`num_layers` layers of one kind, and one is needed. Give a KerasHub "
            "backbone of one stack of transformer layers, or a task with one, or make "
            "the student by hand."
        )
    return list(lists[0])


def _choose_layers(count, every, layers):
    if layers is None:
        layers = range(0, count, check_positive_int("from_layers", "every", every))
    layers = list(layers)
    known = all(isinstance(n, int) and 0 <= n < count for n in layers)
    if not known or layers != sorted(set(layers)) or not 0 < len(layers) < count:
        raise ValueError(
            f"`from_layers`: of {count} layers some are kept, in their order, by "
            f"number from 0. Received: {layers}."
        )
    return layers


def _copy_layers(sources, targets):
    for source, target in zip(sources, targets, strict=True):
        shapes = [[tuple(v.shape) for v in each.weights] for each in (source, target)]
        # A place may be in the settings too, as that of a sliding window.
        settings = [_find_settings(each) for each in (source, target)]
        if shapes[0] != shapes[1] or settings[0] != settings[1]:
            raise ValueError(
                f"`from_layers`: {source.name!r} is not as {target.name!r} of the "
                "smaller model would be: it depends on its place. Choose others by "
                "`layers=`, or make the student by hand."
            )
        target.set_weights(source.get_weights())


def _find_settings(layer):
    """The numbers and flags that a layer of transformers was made with."""
    simple = bool, int, float, str, type(None)
    return {
        name: value
        for name, value in vars(layer).items()
        if not name.startswith("_") and name != "name" and isinstance(value, simple)
    }


def _copy_others(model, small, blocks, small_blocks):
    """Copies all layers of a model but the `blocks`, by name."""
    skipped = set(map(id, (*blocks, *small_blocks)))
    others = {each.name: each for each in small.layers if id(each) not in skipped}
    pairs = [
        (layer, others[layer.name])
        for layer in model.layers
        if id(layer) not in skipped and layer.weights
    ]
    for pair in pairs:
        _copy_layers(*([each] for each in pair))
