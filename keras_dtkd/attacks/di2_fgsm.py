"""Steps with momentum, along gradients of images that are changed at random."""

from keras_dtkd.attacks.ascent import Way
from keras_dtkd.attacks.search import attack_with_restarts


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
    """M-DI²-FGSM: what misleads this model is likely to mislead others.

    From `x`, `g ← momentum · g + ∇ₓ CE(T(x)) / ‖∇ₓ CE(T(x))‖₁` and
    `x ← x + step_size · sign(g)`, then back into the ball and the data's range. `T`
    makes an image smaller and puts it somewhere on black, with the probability
    `diversity`. `diversity=0` is MI-FGSM, `momentum=0` DI²-FGSM.

    Args:
        model: As of `keras_dtkd.attacks.pgd`, as are the arguments not said here.
        x: Inputs; images, unless `diversity=0`.
        y: Labels.
        epsilon: Radius of the ball.
        steps: Gradients.
        step_size: Length of a step. `epsilon / steps` if `None`, as in MI-FGSM: from
            `x` itself, that reaches the surface of the ball.
        momentum: Share of the former direction that a step keeps.
        diversity: Probability of another size and place, for each image and step.
        norm: Of the ball.
        range: Of the data.
        seed: An integer decides sizes and places. Fresh ones if `None`.
        targeted: Whether `y` names what the model should be made to say.
        output: Name or index of the model's output.
        from_logits: Whether the model gives logits.
        batch_size: Samples at once.
        verbose: 1 shows progress.

    Returns:
        Adversarial inputs, float32 NumPy of the shape of `x`.

    Raises:
        ValueError: As of `keras_dtkd.attacks.pgd`.

    Reference:
        Xie et al., "Improving Transferability of Adversarial Examples with Input
        Diversity", arXiv 1803.06978; Dong et al., "Boosting Adversarial Attacks with
        Momentum" (MI-FGSM), arXiv 1710.06081. The former enlarge 299 pixels to at most
        330 and feed the model images of 330. Many models take one size only: here the
        image becomes up to a tenth smaller, and keeps its frame.

    Example:

    >>> adversarial = di2_fgsm(model, x, y, epsilon=16 / 255, seed=0)
    >>> other_model.evaluate(adversarial, y)
    """
    way = Way(
        epsilon,
        steps,
        step_size,
        norm=norm,
        momentum=momentum,
        diversity=diversity,
        range=range,
        seed=seed,
        targeted=targeted,
    )
    return attack_with_restarts(
        "di2_fgsm", model, x, y, way, output, from_logits, batch_size, verbose
    )
