"""SGD with the weight decay and momentum of PyTorch."""

import re

import keras
from keras import ops

from keras_dtkd.core.arguments import check_in_range


@keras.saving.register_keras_serializable("keras_dtkd")
class TorchSGD(keras.optimizers.SGD):
    """SGD with the weight decay and the momentum of `torch.optim.SGD`.

    `g ← g + weight_decay · w`, `v ← momentum · v + g`, `w ← w − rate · v`, on every
    backend. It differs from `keras.optimizers.SGD` in two ways. The weight decay is L2
    regularization: part of the gradient, and therefore of the momentum; Keras subtracts
    `rate · weight_decay · w` separately. And a change of the learning rate applies to
    the whole momentum at once; Keras's momentum contains steps at the previous rate.

    All trainable weights decay, including biases and normalization weights, except
    those given to `exclude_from_weight_decay`.

    Args:
        learning_rate: A number or a schedule.
        momentum: In [0, 1].
        nesterov: Whether to update by `g + momentum · v`.
        weight_decay: Not negative.
        **kwargs: Arguments of `keras.optimizers.Optimizer`. Gradients are clipped,
            accumulated and averaged over replicas before the decay is added.

    Raises:
        ValueError: A negative `weight_decay`.

    Example:
    >>> student.compile(TorchSGD(0.05, momentum=0.9, weight_decay=5e-4), loss)
    """

    def __init__(
        self,
        learning_rate=0.01,
        momentum=0.0,
        nesterov=False,
        weight_decay=0.0,
        name="torch_sgd",
        **kwargs,
    ):
        # Without `weight_decay`: Keras would apply its own decay in addition.
        super().__init__(learning_rate, float(momentum), nesterov, name=name, **kwargs)
        check_in_range("TorchSGD", "weight_decay", weight_decay, 0, inclusive=True)
        self.l2_weight_decay = float(weight_decay)
        self._excluded_ids: tuple[int, ...] = ()
        self._excluded_names: tuple[str, ...] = ()

    def exclude_from_weight_decay(self, var_list=None, var_names=None):
        """Excludes variables from weight decay. Replaces earlier exclusions.

        Args:
            var_list: `keras.Variable`s.
            var_names: Regular expressions that match names of variables.

        Raises:
            ValueError: The optimizer is already built.
        """
        if self.built:
            raise ValueError(
                "`TorchSGD`: `exclude_from_weight_decay` was called after the "
                "optimizer was built. Call it before the first step."
            )
        # Ids: the optimizer must not track the model's variables as its own.
        self._excluded_ids = tuple(id(variable) for variable in var_list or ())
        self._excluded_names = tuple(var_names or ())

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._uses_decay = tuple(
            id(variable) not in self._excluded_ids
            and not any(re.search(name, variable.name) for name in self._excluded_names)
            for variable in variables
        )

    def update_step(self, gradient, variable, learning_rate):
        # Under TensorFlow `variable` is the `tf.Variable` inside the `keras.Variable`;
        # Keras's guide to custom optimizers looks up its index in this way.
        index = self._get_variable_index(variable)
        rate = ops.cast(learning_rate, variable.dtype)
        step = ops.cast(gradient, variable.dtype)
        if self.l2_weight_decay and self._uses_decay[index]:
            step = ops.add(step, ops.multiply(variable, self.l2_weight_decay))
        if self.momentum:
            momentum_buffer = self.momentums[index]
            velocity = ops.add(ops.multiply(momentum_buffer, self.momentum), step)
            self.assign(momentum_buffer, velocity)
            if self.nesterov:
                velocity = ops.add(step, ops.multiply(velocity, self.momentum))
            step = velocity
        self.assign_sub(variable, ops.multiply(step, rate))

    def get_config(self):
        return {**super().get_config(), "weight_decay": self.l2_weight_decay}
