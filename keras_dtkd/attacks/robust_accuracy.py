"""Accuracy before and under attack."""

import inspect
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from keras_dtkd.attacks.attacked_model import AttackedModel
from keras_dtkd.attacks.pgd import di2_fgsm, fgsm, pgd
from keras_dtkd.attacks.threat_model import validate_inputs

ATTACKS = {"pgd": pgd, "fgsm": fgsm, "di2_fgsm": di2_fgsm}


class Robustness(NamedTuple):
    """Accuracy of a model before and under attack.

    Attributes:
        clean_accuracy: Fraction of the samples that are classified correctly.
        robust_accuracy: Fraction that is classified correctly before and after the
            attack.
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
    evaluation = RobustnessEvaluation(
        "robust_accuracy",
        model,
        (x, y, epsilon),
        attack,
        options,
        (output, from_logits, batch_size),
    )
    return evaluation.evaluate(verbose)


class RobustnessEvaluation:
    """Measures the robust accuracy of a model, repeatedly while it trains.

    `attack_data` is `(x, y, epsilon)`, `output_options` `(output, from_logits,
    batch_size)`, `options` those of the attack. Errors name `caller`.
    """

    def __init__(
        self, caller, model, attack_data, attack, options, output_options, loss=None
    ):
        x, y, self.epsilon = attack_data
        output, from_logits, batch_size = output_options
        if options.get("targeted"):
            raise ValueError(
                f"`{caller}`: accuracy needs labels, not targets. Remove `targeted`."
            )
        self.caller, self.options = caller, options
        self.attack = resolve_attack(caller, attack)
        self.is_built_in = self.attack in ATTACKS.values()
        if self.is_built_in:
            _validate_options(caller, self.attack, options)
        self.x = validate_inputs(caller, x)
        self._attacked = AttackedModel(
            caller, model, self.x, output, from_logits, batch_size, loss
        )
        self.y = self._attacked.class_indices(y, len(self.x))
        # A built-in attack reuses what is compiled.
        self.model = self._attacked if self.is_built_in else model
        if self.is_built_in:
            self._attacked.is_dry_run = True
            self.attack(self.model, self.x, self.y, self.epsilon, **options)
            self._attacked.is_dry_run = False

    def evaluate(self, verbose=0):
        """The `Robustness` of the model with its current weights."""
        is_robust = self._is_correct(self.x, self.y)
        clean_accuracy = float(is_robust.mean())
        indices = np.flatnonzero(is_robust)
        if len(indices):
            x, y, options = self.x[indices], self.y[indices], dict(self.options)
            if self.is_built_in:
                options["verbose"] = verbose
            x_adv = np.asarray(self.attack(self.model, x, y, self.epsilon, **options))
            if x_adv.shape != x.shape:
                raise ValueError(
                    f"`{self.caller}`: the attack received inputs of shape {x.shape} "
                    f"and returned {x_adv.shape}. It must return inputs of one shape."
                )
            is_robust[indices] = self._is_correct(x_adv.astype("float32"), y)
        return Robustness(clean_accuracy, float(is_robust.mean()), is_robust)

    def _is_correct(self, x, y):
        attacked, batches = self._attacked, []
        for start in range(0, len(x), attacked.batch_size):
            batch = slice(start, start + attacked.batch_size)
            padded = attacked.pad_batch(x[batch], y[batch])
            correct = ops.convert_to_numpy(attacked.loss_and_correct(*padded)[1])
            batches.append(correct[: len(x[batch])])
        # A copy: arrays of a backend may be read-only.
        return np.concatenate(batches)


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
