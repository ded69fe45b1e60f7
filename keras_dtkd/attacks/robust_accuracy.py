"""How many samples a model gets right, and still gets right under attack."""

import inspect
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from keras_dtkd.attacks import checks
from keras_dtkd.attacks.attacked_model import AttackedModel
from keras_dtkd.attacks.di2_fgsm import di2_fgsm
from keras_dtkd.attacks.fgsm import fgsm
from keras_dtkd.attacks.pgd import pgd

ATTACKS = {"pgd": pgd, "fgsm": fgsm, "di2_fgsm": di2_fgsm}


class Robustness(NamedTuple):
    """What an attack left of a model's accuracy.

    Attributes:
        clean: Share of the samples that the model gets right.
        robust: Share that it gets right both before and after the attack.
        stood: Which ones these are, NumPy booleans `(samples,)`. Where several attacks
            were tried, `(a.stood & b.stood).mean()` is what stood them all.
    """

    clean: float
    robust: float
    stood: Any


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

    An upper bound: a stronger attack may leave less. Samples that the model gets wrong
    as they are need no attack and get none.

    Args:
        model: As of `keras_dtkd.attacks.pgd`, as are the arguments not said here.
        x: Inputs.
        y: Labels.
        epsilon: Radius of the ball.
        attack: `keras_dtkd.attacks.pgd`, `fgsm` or `di2_fgsm`, or its name; or any
            function of `(model, x, y, epsilon, **options)` that returns inputs of the
            shape of `x`, for which the caller vouches that they lie in the ball.
        output: Name or index of the model's output.
        from_logits: Whether the model gives logits.
        batch_size: Samples at once.
        verbose: 1 shows progress.
        **options: Further arguments of the attack: `steps=20, restarts=5, seed=0`.

    Returns:
        A `Robustness`: `clean`, `robust`, `stood`.

    Raises:
        TypeError: An option that the attack does not take.
        ValueError: As of `keras_dtkd.attacks.pgd`; an attack of another name;
            `targeted` among the options; inputs of another shape from an attack of
            your own.

    Example:

    >>> found = robust_accuracy(model, x, y, epsilon=8 / 255, restarts=5, seed=0)
    >>> print(f"{found.clean:.1%} clean, {found.robust:.1%} under attack")
    """
    data, how = (x, y, epsilon), (output, from_logits, batch_size)
    return RobustnessEvaluation(
        "robust_accuracy", model, data, how, attack, options
    ).run(verbose)


class RobustnessEvaluation:
    """A robust accuracy that may be measured again when the model has learned more.

    Args:
        who: Who was called, for messages.
        model: A built `keras.Model`.
        data: `(x, y, epsilon)`.
        how: `(output, from_logits, batch_size)`.
        attack: A function, or the name of one of ours.
        options: Of the attack.
        loss: The loss that the model is trained with, if not by its own `fit`.

    Raises:
        TypeError: An option that the attack does not take.
        ValueError: Something does not fit.
    """

    def __init__(self, who, model, data, how, attack, options, loss=None):
        x, y, self.epsilon = data
        if options.get("targeted"):
            raise ValueError(
                f"`{who}`: a target is no label, so there is no accuracy to measure. "
                "Leave `targeted` out."
            )
        self.who, self.options = who, options
        self.attack = attack = resolve_attack(who, attack)
        # Ours are compiled once for all runs; another attack wants the model.
        self.ours = attack in ATTACKS.values()
        if self.ours:
            _taken(who, attack, options)
        self.x = checks.images(who, x)
        output, from_logits, batch_size = how
        self.victim = AttackedModel(
            who, model, self.x, output, from_logits, batch_size, loss
        )
        self.y = self.victim.labels(y, len(self.x))
        self.model = self.victim if self.ours else model
        if self.ours:
            with self.victim.rehearsal():
                attack(self.model, self.x, self.y, self.epsilon, **options)

    def run(self, verbose=0):
        """The `Robustness` of the model as it is now."""
        stood = self._right(self.x, self.y)
        clean = float(stood.mean())
        rows = np.flatnonzero(stood)
        if len(rows):
            x, y, options = self.x[rows], self.y[rows], dict(self.options)
            if self.ours:
                options["verbose"] = verbose
            moved = np.asarray(self.attack(self.model, x, y, self.epsilon, **options))
            if moved.shape != x.shape:
                raise ValueError(
                    f"`{self.who}`: the attack was given inputs of shape {x.shape} and "
                    f"returned {moved.shape}. It must return one for each."
                )
            stood[rows] = self._right(moved.astype("float32"), y)
        return Robustness(clean, float(stood.mean()), stood)

    def _right(self, x, y):
        parts = []
        for start in range(0, len(x), self.victim.batch):
            some = slice(start, start + self.victim.batch)
            filled = self.victim.filled(x[some], y[some])
            right = ops.convert_to_numpy(self.victim.judge(*filled)[1])
            parts.append(right[: len(x[some])])
        # A copy: what a backend hands out may be read-only.
        return np.concatenate(parts)


def resolve_attack(who, attack):
    """The function, if an attack is given by its name.

    Raises:
        ValueError: There is none of this name, or it is no function.
    """
    found = ATTACKS.get(attack) if isinstance(attack, str) else attack
    if not callable(found):
        raise ValueError(
            f"`{who}`: `attack` must be one of {', '.join(map(repr, ATTACKS))}, or a "
            f"function of `(model, x, y, epsilon, **options)`. Received: "
            f"attack={attack!r}."
        )
    return found


def _taken(who, attack, options):
    """Options that the attack takes, but for those that the caller has already."""
    known = inspect.signature(attack).parameters
    own = inspect.signature(robust_accuracy).parameters
    left = [name for name in known if name not in (*own, "targeted")]
    for name in options:
        if name not in left:
            raise TypeError(
                f"`{who}`: `{attack.__name__}` takes no `{name}`. Its options are "
                f"{', '.join(f'`{one}`' for one in left)}."
            )
