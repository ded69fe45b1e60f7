"""Projected gradient descent, and the attacks that are special cases of it."""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_dtkd.attacks import input_diversity, threat_model
from keras_dtkd.attacks.attacked_detector import AttackedDetector
from keras_dtkd.attacks.attacked_model import AttackedModel
from keras_dtkd.core.arguments import check_in_range, check_positive_int


def pgd(
    model,
    x,
    y,
    epsilon,
    *,
    steps=20,
    step_size=None,
    restarts=1,
    random_start=True,
    norm="linf",
    momentum=0.0,
    diversity=0.0,
    range=(0.0, 1.0),
    seed=None,
    targeted=False,
    output=None,
    from_logits="auto",
    batch_size=128,
    verbose=0,
):
    """Projected gradient descent: the standard measure of robustness.

    From a random point of the ball of radius ε around `x`, `steps` steps increase the
    cross-entropy, each followed by the projection onto the ball and onto the range of
    the data. The result for a sample is the last point of the first start that is
    misclassified; for a sample that no start misleads, the last point of highest loss.
    The model runs in inference mode. Its weights, statistics, random states and
    gradients do not change.

    Args:
        model: A built `keras.Model` with one input array that returns logits, softmax
            or sigmoid probabilities.
        x: Inputs `(samples, ...)`, an array of floats as the model takes them.
        y: Labels: class indices, `(samples,)` or `(samples, 1)`, or one-hot,
            `(samples, classes)`. For sigmoids, 0 or 1 for each output; such a sample
            counts as correct if all of its outputs are. For a detector, a dict of
            `"boxes"`, `(samples, boxes, 4)`, and `"labels"`, `(samples, boxes)`: the
            steps increase its own loss, by way of its class outputs alone. See
            docs/detection.md.
        epsilon: Radius of the ball, in the units of `x`. A number; for `"linf"` also
            an array that broadcasts against one input (for normalized channels
            `epsilon / std`).
        steps: Gradient steps from each start.
        step_size: Length of a step, in the units and norm of `epsilon`; a number or an
            array like it. `2 * epsilon / steps` if `None`, 0.1 ε for 20 steps, as in
            KDIGA's evaluation: the steps together span the ball.
        restarts: Number of starts. Only samples that are still robust get another.
        random_start: Whether a start is uniform in the ball. `False` starts at `x`.
        norm: Norm of the ball: `"linf"` or `"l2"`.
        momentum: Decay factor of the accumulated gradient, as in MI-FGSM:
            `g ← momentum · g + ∇ / ‖∇‖₁`. 0 for no momentum.
        diversity: Probability, for each image and step, that the gradient is taken at
            a smaller copy of the image on a black background, as in DI²-FGSM. For
            images `(samples, height, width, channels)`, or channels first if the
            model's layers are.
        range: `(lowest, highest)` value of the data, numbers or arrays that broadcast
            against one input. The results are within it. `None` for no limit.
        seed: Integer seed of the random starts and of the diversity. Different at each
            call if `None`; Keras's global seed is not used.
        targeted: Whether `y` contains target classes, which the attack moves towards.
        output: Name or index of the model's output, for a model with several. Of a
            detector, a name or a list of them; `None` for all with "logits" in it.
        from_logits: `True` for logits, `False` for probabilities, `"auto"` to infer it.
        batch_size: Samples in a batch; of a detector at most 8.
        verbose: 1 shows a progress bar with the fraction of samples still robust.

    Returns:
        Adversarial inputs, float32 NumPy of the shape of `x`.

    Raises:
        ValueError: Before the first step: integer inputs, a model that casts its
            inputs to integers, inputs outside of `range`, `epsilon` not above 0, soft
            labels or labels that do not fit the output, no `output` for a model with
            several, and similar.

    Reference:
        Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks",
        arXiv 1706.06083. Step size and 20 steps: the evaluation of Shao et al. (KDIGA),
        arXiv 2110.12072, by the authors' code.

    Example:

    >>> adversarial = pgd(model, x, y, epsilon=8 / 255, restarts=5, seed=0)
    >>> model.evaluate(adversarial, y)
    """
    return _attack("pgd", total_step_ratio=2.0, **locals())


def fgsm(
    model,
    x,
    y,
    epsilon,
    *,
    norm="linf",
    range=(0.0, 1.0),
    targeted=False,
    output=None,
    from_logits="auto",
    batch_size=128,
    verbose=0,
):
    """Fast gradient sign method: one step of size `epsilon`.

    `x + ε · sign(∇ₓ CE)`, clipped to the range of the data; for `"l2"`,
    `x + ε · ∇ₓ CE / ‖∇ₓ CE‖₂`. The weakest attack here, no measure of robustness.

    Args:
        model: The model, like all arguments as in `keras_dtkd.attacks.pgd`.
        epsilon: Size of the step, in the units of `x`.
        norm: Norm of the step.

    Returns:
        Adversarial inputs, float32 NumPy of the shape of `x`.

    Raises:
        ValueError: As in `keras_dtkd.attacks.pgd`.

    Reference:
        Goodfellow et al., "Explaining and Harnessing Adversarial Examples", arXiv
        1412.6572.

    Example:

    >>> adversarial = fgsm(model, x, y, epsilon=8 / 255)
    """
    return _attack("fgsm", **locals())


def di2_fgsm(
    model,
    x,
    y,
    epsilon,
    *,
    steps=10,
    step_size=None,
    momentum=1.0,
    diversity=0.5,
    norm="linf",
    range=(0.0, 1.0),
    seed=None,
    targeted=False,
    output=None,
    from_logits="auto",
    batch_size=128,
    verbose=0,
):
    """M-DI²-FGSM: adversarial inputs that transfer to other models.

    From `x`, `g ← momentum · g + ∇ₓ CE(T(x)) / ‖∇ₓ CE(T(x))‖₁` and
    `x ← x + step_size · sign(g)`, projected onto the ball and the range of the data.
    `T` is as `diversity` in `pgd`. `diversity=0` is MI-FGSM, `momentum=0` DI²-FGSM.

    Args:
        model: The model, like all arguments as in `keras_dtkd.attacks.pgd`, except:
        x: Images, unless `diversity=0`.
        step_size: Length of a step. `epsilon / steps` if `None`, as in MI-FGSM.
        seed: Integer seed of the resizing.

    Returns:
        Adversarial inputs, float32 NumPy of the shape of `x`.

    Raises:
        ValueError: As in `keras_dtkd.attacks.pgd`.

    Reference:
        Xie et al., "Improving Transferability of Adversarial Examples with Input
        Diversity", arXiv 1803.06978; Dong et al., "Boosting Adversarial Attacks with
        Momentum" (MI-FGSM), arXiv 1710.06081. The former enlarge 299 pixels to at most
        330 and give the model images of 330. Many models take one size only: here the
        image shrinks by up to a tenth and keeps its frame.

    Example:

    >>> adversarial = di2_fgsm(model, x, y, epsilon=16 / 255, seed=0)
    >>> other_model.evaluate(adversarial, y)
    """
    return _attack("di2_fgsm", **locals())


class AttackConfig(NamedTuple):
    """The arguments of `pgd`, and the total length of all steps relative to epsilon."""

    epsilon: Any
    steps: int = 1
    step_size: Any = None
    total_step_ratio: float = 1.0
    restarts: int = 1
    random_start: bool = False
    norm: str = "linf"
    momentum: float = 0.0
    diversity: float = 0.0
    range: Any = (0.0, 1.0)
    seed: Any = None
    targeted: bool = False


def _attack(caller, model, x, y, output, from_logits, batch_size, verbose, **options):
    """The first successful start of each sample, or else the one of highest loss.

    An `AttackedModel` as `model` replaces `output`, `from_logits` and `batch_size`.
    Labels of boxes are those of a detector.
    """
    x = threat_model.validate_inputs(caller, x)
    config = _validate_config(caller, AttackConfig(**options), x)
    attacked = model
    if not isinstance(model, AttackedModel):
        build = AttackedDetector if isinstance(y, dict) else AttackedModel
        attacked = build(caller, model, x, output, from_logits, batch_size)
    attacked.require_float_inputs(caller)
    y = attacked.encode_labels(y, len(x))
    if attacked.is_dry_run:
        return x
    x_best, best_losses = x.copy(), np.full(len(x), -np.inf)
    still_robust = np.ones(len(x), bool)
    progress = keras.utils.Progbar(
        len(x) * config.restarts,
        verbose=int(bool(verbose)),
        stateful_metrics=["still_robust"],
        unit_name="sample",
    )
    # The first start does not depend on the number of restarts.
    for seed_sequence in np.random.SeedSequence(config.seed).spawn(config.restarts):
        rng = np.random.default_rng(seed_sequence)
        indices = np.flatnonzero(still_robust)
        if len(indices) < len(x):
            progress.add(len(x) - len(indices))
        for start in range(0, len(indices), attacked.batch_size):
            batch = indices[start : start + attacked.batch_size]
            x_adv, losses, success = run_attack(
                attacked, x[batch], y[batch], config, rng
            )
            better = success | (losses > best_losses[batch])
            x_best[batch[better]] = x_adv[better]
            best_losses[batch[better]] = losses[better]
            still_robust[batch] = ~success
            progress.add(len(batch), values=[("still_robust", still_robust.mean())])
    return x_best


def _validate_config(caller, config, x):
    """The config with float32 arrays for `epsilon`, `step_size` and `range`."""
    check_positive_int(caller, "steps", config.steps)
    check_positive_int(caller, "restarts", config.restarts)
    check_in_range(caller, "momentum", config.momentum, 0, inclusive=True)
    check_in_range(caller, "diversity", config.diversity, 0, 1, inclusive=True)
    if config.diversity and x.ndim != 4:
        raise ValueError(
            f"`{caller}`: `diversity` resizes images, `(samples, height, width, "
            f"channels)`. Received: x of shape {x.shape}. Set `diversity=0`."
        )
    if config.restarts > 1 and not config.random_start and not config.diversity:
        raise ValueError(
            f"`{caller}`: without a random start all {config.restarts} starts are the "
            "same. Set `random_start=True`, or `restarts=1`."
        )
    norm, step_size = config.norm, config.step_size
    epsilon = threat_model.validate_radius(caller, "epsilon", config.epsilon, norm, x)
    if step_size is None:
        step_size = config.total_step_ratio * epsilon / config.steps
    step_size = threat_model.validate_radius(caller, "step_size", step_size, norm, x)
    bounds = threat_model.validate_range(caller, config.range, x)
    return config._replace(epsilon=epsilon, step_size=step_size, range=bounds)


def run_attack(attacked, x, y, config, rng):
    """Attacks one batch, NumPy, from one start.

    Returns adversarial inputs, the losses that the attack increases (negative for a
    target class), and whether it succeeded, NumPy.
    """
    ball = threat_model.NORM_BALLS[config.norm](config.epsilon)
    start = np.zeros_like(x)
    if config.random_start:
        start = ball.sample(rng, x.shape).astype("float32")
    x_clean, y, start = attacked.pad_batch(x, y, start)
    x_adv = _clip(x_clean + start, config.range)
    sign = -1.0 if config.targeted else 1.0
    momentum = ops.zeros_like(x_clean)
    for _ in range(config.steps):
        matrices = None
        if config.diversity:
            matrices = input_diversity.sample_resize_matrices(
                rng, tuple(x_adv.shape), config.diversity, attacked.data_format
            )
        gradient = sign * attacked.gradient(x_adv, y, matrices)
        if config.momentum:
            gradient = threat_model.normalize(gradient, 1)
            momentum = gradient = config.momentum * momentum + gradient
        step = ops.multiply(config.step_size, ball.steepest_step(gradient))
        x_adv = _clip(x_clean + ball.project(x_adv + step - x_clean), config.range)
    loss, correct = attacked.loss_and_correct(x_adv, y)
    results = x_adv, sign * loss, ops.equal(correct, config.targeted)
    return tuple(ops.convert_to_numpy(result)[: len(x)] for result in results)


def _clip(x, bounds):
    # The clean input is within the bounds: clipping does not leave the ball.
    return x if bounds is None else ops.minimum(ops.maximum(x, bounds[0]), bounds[1])
