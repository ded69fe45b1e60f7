"""Small input gradients, without a teacher."""

import keras

from keras_dtkd.losses.input_gradient_base import InputGradientLoss


@keras.saving.register_keras_serializable("keras_dtkd")
class InputGradientPenalty(InputGradientLoss):
    """Penalizes the norm of the student's input gradient: the control of KDIGA.

    With `g_i` the gradient of sample i's cross-entropy with respect to its own inputs,

    `mean_i ‖g_i‖`

    which is `InputGradientAlignment` with a teacher whose gradient is 0. The gradient
    of a confident teacher nearly is: compare the two losses before attributing an
    effect to the teacher's gradient. See `InputGradientAlignment` for cost, precision,
    inputs and BatchNorm.

    Args:
        weight: See `DistillationLoss`, like `**kwargs`.
        norm: `"per_sample"`, or `"batch"` for the form of KDIGA's authors. See
            `InputGradientAlignment`.
        squared: Whether the norm is squared.

    Raises:
        ValueError: Unknown `norm`, a negative weight. Before the first step: the errors
            of `InputGradientAlignment`.

    Reference:
        Drucker and Le Cun, "Improving generalization performance using double
        backpropagation", 1992; Ross and Doshi-Velez, "Improving the Adversarial
        Robustness and Interpretability of Deep Neural Networks by Regularizing their
        Input Gradients", arXiv 1711.09404, which squares it.

    Example:

    >>> losses = [KD(temperature=1.0, weight=0.5), InputGradientPenalty(weight=0.1)]
    >>> Distiller(teacher, student, losses, task_weight=0.5).fit(x, y)
    """

    input_gradient = "exact"
    teacher_input_gradient = False
    needs_labels = True

    def compute(self, step):
        return self.norm_of(step.student_input_gradient, step.sample_weight)
