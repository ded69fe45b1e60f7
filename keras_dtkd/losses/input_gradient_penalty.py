"""Small input gradients, without a teacher."""

import keras

from keras_dtkd.losses.input_gradient_base import InputGradientLoss


@keras.saving.register_keras_serializable("keras_dtkd")
class InputGradientPenalty(InputGradientLoss):
    """The length of the student's input gradient: the control of KDIGA.

    With `g_i` the gradient of sample i's cross-entropy with respect to its own inputs,

    `mean_i ‖g_i‖`

    which is `InputGradientAlignment` with a teacher whose gradient is 0. A confident
    teacher's nearly is: compare the two before saying that the teacher's gradient
    helped. See `InputGradientAlignment` for cost, precision, inputs and BatchNorm.

    Args:
        norm: `"per_sample"`, or `"batch"` for the form of KDIGA's authors. See
            `InputGradientAlignment`.
        squared: Whether the length is squared.
        weight: Factor in the total. Not negative.
        warmup_epochs: See `DistillationLoss`.

    Raises:
        ValueError: Another `norm`, a negative weight. Before the first step: what
            `InputGradientAlignment` refuses.

    Reference:
        Drucker and Le Cun, "Improving generalization performance using double
        backpropagation", 1992; Ross and Doshi-Velez, "Improving the Adversarial
        Robustness and Interpretability of Deep Neural Networks by Regularizing their
        Input Gradients", arXiv 1711.09404, who square it.

    Example:

    >>> losses = [KD(temperature=1.0, weight=0.5), InputGradientPenalty(weight=0.1)]
    >>> Distiller(teacher, student, losses, task_weight=0.5).fit(x, y)
    """

    input_gradient = "exact"
    teacher_input_gradient = False
    needs_labels = True

    def __init__(
        self, weight=1.0, norm="per_sample", squared=False, warmup_epochs=0, **kwargs
    ):
        super().__init__(
            norm, squared, weight=weight, warmup_epochs=warmup_epochs, **kwargs
        )

    def compute(self, step):
        """One value a sample."""
        return self.length(step.student_input_gradient, step.sample_weight)
