"""Labels as the class, or the yes or no, that an attack moves away from."""

from keras_dtkd.core import logits
from keras_dtkd.core.arrays import to_numpy
from keras_dtkd.validation.labels import is_text


def to_class_indices(who, y, shape, head, samples):
    """Integers beside which logits are right or wrong.

    Args:
        who: The function that was called, for messages.
        y: Labels: `(samples,)` or `(samples, 1)` of classes, or one-hot,
            `(samples, classes)`. Beside a sigmoid 0 or 1, one for each output.
        shape: Of the model's output.
        head: Of the model, see `keras_dtkd.core.logits`.
        samples: How many inputs there are.

    Returns:
        `int32`, `(samples,)`; `(samples, labels)` where a model judges several.

    Raises:
        ValueError: They do not fit the output.
    """
    y, width = to_numpy(y), shape[-1]
    if is_text(y):
        raise ValueError(
            f"`{who}`: labels such as {str(y.flat[0])!r} are no numbers. "
            "Number the classes as the model does."
        )
    each = head in (logits.SIGMOID, logits.BINARY)
    fitting = (samples, width) if each and width > 1 else (samples,)
    column = (samples, 1)
    hot = not each and width > 1 and y.shape == (samples, width)
    if hot:
        if not (((y == 0) | (y == 1)).all() and (y.sum(-1) == 1).all()):
            raise ValueError(
                f"`{who}`: some rows of `y` name several classes, or none. Give each "
                "sample one class: an integer, or a one-hot row. Of soft labels "
                "`y.argmax(-1)` is the likeliest."
            )
        return y.argmax(-1).astype("int32")
    if y.shape == column and fitting == (samples,):
        y = y[:, 0]
    if y.shape != fitting:
        raise ValueError(
            f"`{who}`: labels of shape {y.shape} do not fit {samples} inputs and "
            f"outputs of shape {tuple(shape)}. Give {_remedy(each, fitting, width)}."
        )
    top = 2 if each else width
    numbers = y.astype("int32")
    if (numbers != y).any() or numbers.min() < 0 or numbers.max() >= top:
        raise ValueError(
            f"`{who}`: labels from {y.min()} to {y.max()}, but the model knows the "
            f"classes 0 to {top - 1}. Give their numbers, as integers."
        )
    return numbers


def _remedy(each, fitting, width):
    if each:
        return f"0 or 1 for each output, {fitting}"
    return f"the number of a class for each, {fitting}, or one-hot rows of {width}"
