"""Start after start, for the samples that still stand."""

import keras
import numpy as np

from keras_dtkd.attacks import checks
from keras_dtkd.attacks.ascent import climb
from keras_dtkd.attacks.attacked_model import AttackedModel
from keras_dtkd.validation.input_gradients import require_float_inputs


def attack_with_restarts(
    who, model, x, y, way, output, from_logits, batch_size, verbose
):
    """Adversarial inputs.

    Args:
        who: The function that was called, for messages.
        model: A Keras model, or a `Victim` that was made for it.
        x: Inputs.
        y: Labels.
        way: A `Way`.
        output: Name or index of the model's output, where there are several.
        from_logits: Whether the model gives logits; "auto" finds out.
        batch_size: Samples at once.
        verbose: 1 shows progress.

    Returns:
        float32 NumPy of the shape of `x`.

    Raises:
        ValueError: Something does not fit.
    """
    x = checks.images(who, x)
    way = _checked(who, way, x)
    if not isinstance(model, AttackedModel):
        model = AttackedModel(who, model, x, output, from_logits, batch_size)
    require_float_inputs(who, "model", model.model)
    y = model.labels(y, len(x))
    return x if model.rehearsing else _search(model, x, y, way, verbose)


def _checked(who, way, x):
    """The way, its numbers as float32 arrays.

    Raises:
        ValueError: It is none, or `x` does not lie where it should.
    """
    checks.whole(who, steps=way.steps, restarts=way.restarts)
    checks.wandering(
        who, way.momentum, way.diversity, way.restarts, way.random_start, x
    )
    epsilon = checks.size(who, "epsilon", way.epsilon, way.norm, x)
    step_size = way.step_size
    if step_size is None:
        step_size = way.reach * epsilon / way.steps
    return way._replace(
        epsilon=epsilon,
        step_size=checks.size(who, "step_size", step_size, way.norm, x),
        range=checks.bounds(who, way.range, x),
    )


def _search(victim, x, y, way, verbose):
    """For each sample the first start that succeeds, or else the one that came nearest.

    Nearest is the highest loss; to a target, the lowest.
    """
    found, nearest = x.copy(), np.full(len(x), -np.inf)
    standing, bar = np.ones(len(x), bool), _Bar(len(x), way.restarts, verbose)
    # The same first start, however many follow.
    for stream in np.random.SeedSequence(way.seed).spawn(way.restarts):
        rng = np.random.default_rng(stream)
        rows = np.flatnonzero(standing)
        bar.skip(len(x) - len(rows))
        for start in range(0, len(rows), victim.batch):
            some = rows[start : start + victim.batch]
            there, heights, right = climb(victim, x[some], y[some], way, rng)
            success = right if way.targeted else ~right
            height = -heights if way.targeted else heights
            better = success | (height > nearest[some])
            found[some[better]] = there[better]
            nearest[some[better]] = height[better]
            standing[some] = ~success
            bar.add(len(some), standing.mean())
    return found


class _Bar:
    """How many samples have had how many starts, and the share that stands."""

    def __init__(self, samples, restarts, verbose):
        self._bar = None
        if verbose:
            self._bar = keras.utils.Progbar(
                samples * restarts,
                unit_name="sample",
                stateful_metrics=["standing"],
            )

    def skip(self, samples):
        """Those that need no further start."""
        if self._bar is not None and samples:
            self._bar.add(samples)

    def add(self, samples, standing):
        """After a batch."""
        if self._bar is not None:
            self._bar.add(samples, values=[("standing", standing)])
