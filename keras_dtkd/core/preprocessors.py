"""What a KerasHub model's own `fit` makes of images."""

import keras

from keras_dtkd.core.arrays import to_numpy
from keras_dtkd.core.columns import is_bundle

# Of a layer's configuration, what changes no image.
NOT_OF_IMAGES = {"name", "dtype", "trainable", "bounding_box_format", "data_format"}


def find_image_converter(model):
    """The layer that resizes and scales a model's images, or `None`.

    Models of images and text take both as one dict, which they convert by themselves.
    """
    preprocessor = getattr(model, "preprocessor", None)
    if getattr(preprocessor, "tokenizer", None) is not None:
        return None
    return getattr(preprocessor, "image_converter", None)


def find_difference(one, other):
    """`(name, value, other's value)` of what makes two converters unlike, or `None`."""
    one, other = one.get_config(), other.get_config()
    for name in sorted(one.keys() & other.keys() - NOT_OF_IMAGES):
        if repr(one[name]) != repr(other[name]):
            return name, one[name], other[name]
    return None


def convert_images(model, x, y=None, sample_weight=None):
    """A batch as a model's own `fit` converts it: `x`, `(x, y)` or with weights.

    Of inputs with columns or sample ids the inputs alone are converted.
    """
    inputs = x["inputs"] if is_bundle(x) else x
    converted = model.preprocess_samples(inputs, y, sample_weight)
    inputs, y, sample_weight = keras.utils.unpack_x_y_sample_weight(converted)
    x = {**x, "inputs": inputs} if is_bundle(x) else inputs
    return keras.utils.pack_x_y_sample_weight(x, y, sample_weight)


def find_conversion(caller, models):
    """A function of a batch, to NumPy: images as in the models' `predict`.

    `None` where no model converts images, a `ValueError` where two do it differently.
    """
    models = [model for model in models if find_image_converter(model) is not None]
    for other in models[1:]:
        pair = map(find_image_converter, (models[0], other))
        if difference := find_difference(*pair):
            name, value, other_value = difference
            raise ValueError(
                f"`{caller}`: the teachers convert images unlike each other: {name} is "
                f"{value} and {other_value}. Prepare the images first, and set "
                "`preprocessor = None` in all of them."
            )

    def convert(batch):
        batch = keras.tree.map_structure(to_numpy, batch)
        return keras.tree.map_structure(to_numpy, convert_images(models[0], batch))

    return convert if models else None
