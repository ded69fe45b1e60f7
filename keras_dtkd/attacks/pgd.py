"""Many steps, from several random starts."""

from keras_dtkd.attacks.ascent import Way
from keras_dtkd.attacks.search import attack_with_restarts


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
    """Projected gradient descent: the usual measure of robustness.

    From a random point of the ball of radius ε around `x`, `steps` steps up the
    cross-entropy, each followed by the projection onto the ball and onto the data's
    range. A sample is left at the first start whose last point the model gets wrong;
    samples that stand all starts, at the point of highest loss.

    The model hears the inputs in inference mode. Its weights, its statistics, random
    states and gradients stay as they are. Step and batch have one shape throughout,
    whatever still stands: JAX and TensorFlow compile once.

    Args:
        model: A built `keras.Model`: one input array; logits, softmax or sigmoid out.
        x: Inputs `(samples, ...)`, an array of floats as the model takes them.
        y: Labels: integers, `(samples,)` or `(samples, 1)`, or one-hot rows,
            `(samples, classes)`. Beside sigmoids, 0 or 1 for each output; such a
            sample stands if all of them do.
        epsilon: Radius of the ball, in the units of `x`. A number; for `"linf"` also
            an array that broadcasts against one input (for normalised channels
            `epsilon / std`).
        steps: Gradients a start.
        step_size: Length of a step, in the units and norm of `epsilon`, or an array
            likewise. `2 * epsilon / steps` if `None`: 0.1 ε for 20 steps, as in
            KDIGA's evaluation. All steps together then reach across the ball, so any
            point of it can be had from any start; with less, some could not.
        restarts: Starts. Only samples that still stand get another.
        random_start: Whether a start is uniform in the ball, or at `x`.
        norm: Of the ball: `"linf"` or `"l2"`.
        momentum: Share of the former direction that a step keeps, as in MI-FGSM:
            `g ← momentum · g + ∇ / ‖∇‖₁`. 0 for none.
        diversity: Probability, for each image and step, that the gradient is taken at
            the image made smaller and put somewhere on black, as in DI²-FGSM. Images
            `(samples, height, width, channels)`, or as Keras is configured.
        range: `(lowest, highest)` of the data, numbers or arrays that broadcast
            against one input; results stay inside. `None` for no limit.
        seed: An integer decides random starts and diversity. Fresh ones if `None`.
            Keras's seed is neither read nor changed.
        targeted: Whether `y` names what the model should be made to say.
        output: Name or index of the model's output, where there are several.
        from_logits: `True` for logits, `False` for probabilities; `"auto"` finds out.
        batch_size: Samples at once.
        verbose: 1 shows progress, and the share of samples that stands.

    Returns:
        Adversarial inputs, float32 NumPy of the shape of `x`.

    Raises:
        ValueError: Before the first step: integers for inputs, a model that casts its
            inputs to integers, inputs outside of `range`, `epsilon` not above 0, labels
            that do not fit or are soft, several outputs and none named, and the like.

    Reference:
        Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks",
        arXiv 1706.06083. Step size and 20 steps: the evaluation of Shao et al., "How
        and When Adversarial Robustness Transfers in Knowledge Distillation?", arXiv
        2110.12072, by the authors' code.

    Example:

    >>> adversarial = pgd(model, x, y, epsilon=8 / 255, restarts=5, seed=0)
    >>> model.evaluate(adversarial, y)
    """
    way = Way(
        epsilon,
        steps,
        step_size,
        reach=2.0,
        restarts=restarts,
        random_start=random_start,
        norm=norm,
        momentum=momentum,
        diversity=diversity,
        range=range,
        seed=seed,
        targeted=targeted,
    )
    return attack_with_restarts(
        "pgd", model, x, y, way, output, from_logits, batch_size, verbose
    )
