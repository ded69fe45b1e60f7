"""One start of an attack: up the loss, within a ball and the data's range."""

from typing import Any, NamedTuple

import numpy as np
from keras import ops

from keras_dtkd.attacks import input_diversity, threat_model


class Way(NamedTuple):
    """How an attack goes. The arguments of `keras_dtkd.attacks.pgd`."""

    epsilon: Any
    steps: int
    # `None`: all steps together make `reach` times epsilon.
    step_size: Any
    reach: float = 1.0
    restarts: int = 1
    random_start: bool = False
    norm: str = "linf"
    momentum: float = 0.0
    diversity: float = 0.0
    range: Any = (0.0, 1.0)
    seed: Any = None
    targeted: bool = False


def climb(victim, x, y, way, rng):
    """Where a start leads.

    Args:
        victim: A `Victim`.
        x: Inputs, float32 NumPy, `victim.batch` at most.
        y: Their classes, `int32` NumPy.
        way: A `Way`, its numbers float32 arrays.
        rng: A NumPy generator.

    Returns:
        `(inputs, heights, right)`, NumPy: inputs moved, what rises with the
        cross-entropy there, and whether the model is right there.
    """
    start = np.zeros_like(x)
    ball = threat_model.NORM_BALLS[way.norm](way.epsilon)
    if way.random_start:
        start = ball.draw(rng, x.shape).astype("float32")
    origin, y, start = victim.filled(x, y, start)
    there = _inside(origin + start, way.range)
    # A target's loss is to fall.
    up = -1.0 if way.targeted else 1.0
    momentum = ops.zeros_like(origin)
    for _ in range(way.steps):
        gradient = up * victim.gradient(there, y, _matrices(rng, there, way))
        if way.momentum:
            gradient = momentum = way.momentum * momentum + threat_model.share(gradient)
        there = there + ops.multiply(way.step_size, ball.steepest(gradient))
        there = _inside(origin + ball.project(there - origin), way.range)
    heights, right = victim.judge(there, y)
    return tuple(
        ops.convert_to_numpy(found)[: len(x)] for found in (there, heights, right)
    )


def _inside(x, bounds):
    # Towards the original, which lies inside: never out of the ball.
    return x if bounds is None else ops.minimum(ops.maximum(x, bounds[0]), bounds[1])


def _matrices(rng, x, way):
    if not way.diversity:
        return None
    drawn = input_diversity.draw(rng, tuple(x.shape), way.diversity)
    return tuple(ops.convert_to_tensor(matrices) for matrices in drawn)
