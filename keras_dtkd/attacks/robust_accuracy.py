"""Accuracy before and under attack."""

import inspect
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from keras_dtkd.attacks.attacked_model import AttackedModel
from keras_dtkd.attacks.pgd import di2_fgsm, fgsm, pgd
from keras_dtkd.attacks.threat_model import validate_inputs
from keras_dtkd.core import arrays

ATTACKS = {"pgd": pgd, "fgsm": fgsm, "di2_fgsm": di2_fgsm}


class Robustness(NamedTuple):
    """Accuracy of a model before and under attack.

    Attributes:
        clean_accuracy: Fraction of the samples that are classified correctly.
        robust_accuracy: Fraction that is so before and after the attack.
        is_robust: NumPy booleans `(samples,)`, `True` for the latter samples. The
            robust accuracy under two attacks is `(a.is_robust & b.is_robust).mean()`.
    """

    clean_accuracy: float
    robust_accuracy: float
    is_robust: Any


def robust_accuracy(
    model,
    x,
    y,
    epsilon,
    *,
    attack=pgd,
    output=None,
    from_logits="auto",
    batch_size=128,
    verbose=0,
    **options,
):
    """Accuracy before and under attack.

    An upper bound of the robust accuracy: a stronger attack may find more adversarial
    inputs. Samples that are misclassified without an attack are not attacked.

    Args:
        model: The model, like the other arguments as in `keras_dtkd.attacks.pgd`.
        attack: `keras_dtkd.attacks.pgd`, `fgsm` or `di2_fgsm`, or its name; or a
            function of `(model, x, y, epsilon, **options)` that returns inputs of the
            shape of `x`. That these lie in the ball is not checked.
        **options: Further arguments of the attack: `steps=20, restarts=5, seed=0`.

    Returns:
        A `Robustness`: `clean_accuracy`, `robust_accuracy`, `is_robust`.

    Raises:
        TypeError: The attack has no such option.
        ValueError: As in `keras_dtkd.attacks.pgd`; the attack is unknown; `targeted`
            is among the options; the attack returned inputs of another shape.

    Example:

    >>> result = robust_accuracy(model, x, y, epsilon=8 / 255, restarts=5, seed=0)
    >>> print(f"{result.clean_accuracy:.1%} clean, {result.robust_accuracy:.1%} robust")
    """
    data, output_options = (x, y, epsilon), (output, from_logits, batch_size)
    return RobustnessEvaluation(
        "robust_accuracy", model, data, attack, options, output_options, verbose
    ).evaluate()


class RobustnessEvaluation:
    """Measures the robust accuracy of a model, repeatedly while it trains.

    `data` is `(x, y, epsilon)`, `output_options` `(output, from_logits, batch_size)`,
    `options` those of the attack. Errors name `caller`. `loss` as in `AttackedModel`.
    """

    def __init__(
        self, caller, model, data, attack, options, output_options, verbose, loss=None
    ):
        x, y, self.epsilon = data
        if options.get("targeted"):
            raise ValueError(
                f"`{caller}`: accuracy needs labels, not targets. Remove `targeted`."
            )
        self.caller, self.model, self.options = caller, model, options
        self.attack = resolve_attack(caller, attack)
        is_built_in = self.attack in ATTACKS.values()
        if is_built_in:
            _validate_options(caller, self.attack, options)
        self.x = validate_inputs(caller, x)
        output, from_logits, batch_size = output_options
        attacked = AttackedModel(
            caller, model, self.x, output, from_logits, batch_size, loss
        )
        self.attacked, self.y = attacked, attacked.encode_labels(y, len(self.x))
        if is_built_in:
            # Such an attack reuses what is compiled, and shows its progress.
            self.model, self.options = attacked, {**options, "verbose": verbose}
            attacked.is_dry_run = True
            self.attack(attacked, self.x, self.y, self.epsilon, **options)
            attacked.is_dry_run = False

    def evaluate(self):
        """The `Robustness` of the model with its current weights."""
        is_robust = self._is_correct(self.x, self.y)
        clean_accuracy = float(is_robust.mean())
        indices = np.flatnonzero(is_robust)
        if len(indices):
            x, y = self.x[indices], self.y[indices]
            x_adv = self.attack(self.model, x, y, self.epsilon, **self.options)
            x_adv = np.asarray(arrays.to_numpy(x_adv))
            if x_adv.shape != x.shape:
                raise ValueError(
                    f"`{self.caller}`: the attack received inputs of shape {x.shape} "
                    f"and returned {x_adv.shape}. It must return inputs of one shape."
                )
            is_robust[indices] = self._is_correct(x_adv.astype("float32"), y)
        return Robustness(clean_accuracy, float(is_robust.mean()), is_robust)

    def _is_correct(self, x, y):
        is_correct, size = np.zeros(len(x), bool), self.attacked.batch_size
        for start in range(0, len(x), size):
            batch = slice(start, start + size)
            padded = self.attacked.pad_batch(x[batch], y[batch])
            correct = ops.convert_to_numpy(self.attacked.loss_and_correct(*padded)[1])
            is_correct[batch] = correct[: len(x[batch])]
        return is_correct


def resolve_attack(caller, attack):
    """The attack for a name or a function."""
    function = ATTACKS.get(attack) if isinstance(attack, str) else attack
    if not callable(function):
        raise ValueError(
            f"`{caller}`: `attack` must be one of {', '.join(map(repr, ATTACKS))}, or "
            "a function of `(model, x, y, epsilon, **options)`. Received: "
            f"attack={attack!r}."
        )
    return function


def _validate_options(caller, attack, options):
    reserved = (*inspect.signature(robust_accuracy).parameters, "targeted")
    parameters = inspect.signature(attack).parameters
    available = [name for name in parameters if name not in reserved]
    for name in options:
        if name not in available:
            raise TypeError(
                f"`{caller}`: `{attack.__name__}` has no option `{name}`. Its options "
                f"are {', '.join(f'`{option}`' for option in available)}."
            )
