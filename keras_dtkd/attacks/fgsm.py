"""One step."""

from keras_dtkd.attacks.ascent import Way
from keras_dtkd.attacks.search import attack_with_restarts


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
    """Fast gradient sign method: one step of size `epsilon` up the loss.

    `x + ε · sign(∇ₓ CE)`, then back into the data's range; for `"l2"`,
    `x + ε · ∇ₓ CE / ‖∇ₓ CE‖₂`. The weakest attack here, and the cheapest: no measure
    of robustness by itself.

    Args:
        model: As of `keras_dtkd.attacks.pgd`, as are all arguments.
        x: Inputs.
        y: Labels.
        epsilon: Size of the step.
        norm: Of the step.
        range: Of the data.
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
        Goodfellow et al., "Explaining and Harnessing Adversarial Examples", arXiv
        1412.6572.

    Example:

    >>> adversarial = fgsm(model, x, y, epsilon=8 / 255)
    """
    way = Way(epsilon, 1, epsilon, norm=norm, range=range, targeted=targeted)
    return attack_with_restarts(
        "fgsm", model, x, y, way, output, from_logits, batch_size, verbose
    )
