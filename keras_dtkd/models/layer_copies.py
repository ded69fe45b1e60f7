"""Copies of a layer that serves as a template."""

import keras


def copy_layer(layer, name):
    """A layer of the same configuration, with new weights and another name."""
    config = _drop_shared_ids({**layer.get_config(), "name": name})
    # A model builds its layers here, without its name in their variables' paths, by
    # which Keras tells variables apart: under torch it would clear one's gradient only.
    with keras.name_scope(name):
        return type(layer).from_config(config)


def _drop_shared_ids(config):
    """A configuration whose parts are new objects, while Keras loads a file too."""
    if isinstance(config, dict):
        items = config.items()
        return {k: _drop_shared_ids(v) for k, v in items if k != "shared_object_id"}
    if isinstance(config, list | tuple):
        return type(config)(map(_drop_shared_ids, config))
    return config
