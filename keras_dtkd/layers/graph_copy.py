"""A copy of a functional model with some of its layers replaced."""

import keras

from keras_dtkd.core.layer_tree import iter_layers, set_trainable_flags

# What the training of a model of its own class may be made of.
TRAINING = "train_step", "test_step", "predict_step", "compute_loss", "compute_metrics"


def copy_model(caller, model, replace, fill):
    """A copy of a model, nested functional models included; the model stays as it is.

    Args:
        caller: The public function, for errors.
        model: A built functional or sequential model, or of a class made of one.
        replace: Returns a new layer for a layer, or `None`: then it is copied.
        fill: Called with each replaced layer and the new one, which is built, to give
            it its weights.

    Raises:
        TypeError: `model` is no `keras.Model`.
        ValueError: A model that cannot be copied, by its name.
    """
    check_is_graph(caller, model)
    copies: dict = {}
    replaced: list = []

    def copy_layer(layer):
        if id(layer) not in copies:
            new = replace(layer) if isinstance(layer, keras.layers.Layer) else None
            if new is not None:
                replaced.append((layer, new))
            elif is_graph(layer):
                new = _clone(layer, copy_layer)
            else:
                new = type(layer).from_config(layer.get_config())
            # The layer too, so that no other gets its id.
            copies[id(layer)] = layer, new
        return copies[id(layer)][1]

    try:
        copy = _clone(model, copy_layer)
        if not copy.built:
            copy.build_from_config(model.get_build_config())
        pairs = _pair_layers(copies.values(), [layer for layer, _ in replaced])
    except Exception as error:
        raise ValueError(
            f"`{caller}`: {model.name!r} cannot be copied. Each of its layers needs a "
            "`get_config` that makes it again, and losses, metrics and the optimizer "
            "that it was compiled with too: register those of your own by "
            "`keras.saving.register_keras_serializable`. Keras raised: "
            f"{type(error).__name__}: {error}"
        ) from error
    _require_own_training(caller, model, copy)
    for layer, new in replaced:
        fill(layer, new)
    for layer, new in pairs:
        # A model in it may have become a plain one, of the same layers.
        if type(new) is type(layer):
            _copy_state(layer, new)
    originals, news = zip((model, copy), *replaced, *pairs, strict=True)
    set_trainable_flags(news, [layer.trainable for layer in originals])
    for layer in iter_layers(copy):
        if isinstance(layer, keras.layers.Normalization):
            # It computes with what it derives from its weights.
            layer.finalize_state()
    return copy


def check_is_graph(caller, model):
    """Checks for a built functional or sequential model."""
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"`{caller}`: `model` must be a `keras.Model`. Received: "
            f"{type(model).__name__}."
        )
    if not model.built:
        raise ValueError(
            f"`{caller}`: {model.name!r} is not built, so it has no weights. Call it "
            "on a batch first."
        )
    if not is_graph(model):
        raise ValueError(
            f"`{caller}`: {model.name!r} cannot be copied: {type(model).__name__} has "
            "a `call` of its own. Give a functional or sequential model."
        )


def is_graph(layer):
    """Whether a layer is a functional or sequential model with Keras's own `call`."""
    return (
        isinstance(layer, keras.Model)
        and getattr(layer, "inputs", None) is not None
        and _is_from_keras(type(layer).call)
    )


def iter_graph_layers(model):
    """The layers of a model and of the functional models nested in it."""
    for layer in model.layers:
        yield layer
        if is_graph(layer):
            yield from iter_graph_layers(layer)


def find_hidden_layer(model, wanted):
    """The first layer that cannot be copied in parts and holds one of `wanted` types.

    Returns:
        The outer layer and the one in it; or `None`.
    """
    for layer in iter_graph_layers(model):
        if is_graph(layer) or type(layer) in wanted:
            continue
        for inner in iter_layers(layer):
            if type(inner) in wanted:
                return layer, inner
    return None


def check_no_lora(caller, convolutions):
    """Checks that no convolution has adapters next to its kernel."""
    for layer in convolutions:
        if layer.lora_enabled:
            raise ValueError(
                f"`{caller}`: {layer.name!r} has LoRA. Save and load the model first, "
                "which adds the adapters to the weights."
            )


def _clone(model, copy_layer):
    return keras.models.clone_model(model, clone_function=copy_layer)


def _pair_layers(copies, replaced):
    """`(layer, copy)` of all layers at any depth, but for those that are replaced."""
    replaced = {id(layer) for layer in replaced}
    pairs: dict = {}
    for layer, new in copies:
        if not isinstance(layer, keras.layers.Layer) or id(layer) in replaced:
            continue
        if is_graph(layer):
            # Its layers are among the copies.
            pairs[id(layer)] = layer, new
        else:
            inner = zip(iter_layers(layer), iter_layers(new), strict=True)
            pairs |= {id(one): (one, other) for one, other in inner}
    return list(pairs.values())


def _copy_state(layer, new):
    """Copies what a layer itself saves, which may be more than its weights."""
    store: dict = {}
    layer.save_own_variables(store)
    arrays = {k: keras.ops.convert_to_numpy(value) for k, value in store.items()}
    new.load_own_variables(arrays)


def _require_own_training(caller, model, copy):
    """Keras makes a plain model of a class whose constructor is not its own."""
    own = [n for n in TRAINING if not _is_from_keras(getattr(type(model), n))]
    if type(copy) is not type(model) and own:
        raise ValueError(
            f"`{caller}`: {model.name!r} cannot be copied: the copy is a plain "
            f"functional model, and {type(model).__name__} has a `{own[0]}` of its "
            "own. Give a functional model in it, such as its `backbone`."
        )


def _is_from_keras(function):
    return function.__module__.partition(".")[0] == "keras"
