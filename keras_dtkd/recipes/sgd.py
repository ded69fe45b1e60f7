"""SGD as the papers' code has it."""

import re

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_dtkd")
class TorchSGD(keras.optimizers.SGD):
    """SGD with the weight decay and the momentum of `torch.optim.SGD`.

    `g ← g + weight_decay · w`, `v ← momentum · v + g`, `w ← w − rate · v`. It differs
    from `keras.optimizers.SGD` in two things, on every backend. The decay is a part of
    the gradient, and so of the momentum; Keras takes `rate · weight_decay · w` off
    beside it. And where the rate changes, that of all gathered steps changes at once;
    Keras's momentum still holds steps of the old rate.

    Every trainable weight decays, biases and normalizations too, but those of
    `exclude_from_weight_decay`.

    Args:
        learning_rate: A number or a schedule.
        momentum: In [0, 1].
        nesterov: Whether to step by `g + momentum · v`.
        weight_decay: Not negative.
        **kwargs: As `keras.optimizers.Optimizer`. Gradients are clipped, accumulated
            and averaged over replicas before the decay is added.

    Raises:
        ValueError: A negative `weight_decay`.

    Example:

    >>> student.compile(CoupledSGD(0.05, momentum=0.9, weight_decay=5e-4), loss)
    """

    def __init__(
        self,
        learning_rate=0.01,
        momentum=0.0,
        nesterov=False,
        weight_decay=0.0,
        name="coupled_sgd",
        **kwargs,
    ):
        # Without a decay: Keras would apply its own kind too.
        super().__init__(learning_rate, float(momentum), nesterov, name=name, **kwargs)
        if not weight_decay >= 0:
            raise ValueError(
                "`CoupledSGD`: `weight_decay` must be a number of at least 0. "
                f"Received: weight_decay={weight_decay!r}."
            )
        self.coupled_decay = float(weight_decay)
        self._spared: tuple[int, ...] = ()
        self._spared_names: tuple[str, ...] = ()
        self._decays: tuple[bool, ...] = ()

    def exclude_from_weight_decay(self, var_list=None, var_names=None):
        """Excludes variables from weight decay. Replaces what was excluded before.

        Args:
            var_list: `keras.Variable`s.
            var_names: Texts. Variables with one of them in their name are excluded.

        Raises:
            ValueError: The optimizer is built, and would no longer heed it.
        """
        if self.built:
            raise ValueError(
                "`CoupledSGD`: `exclude_from_weight_decay` comes too late, the "
                "optimizer is built. Call it before the first step."
            )
        # Identities: the optimizer must not track the model's variables as its own.
        self._spared = tuple(id(variable) for variable in var_list or ())
        self._spared_names = tuple(var_names or ())

    def build(self, variables):
        """Makes the momentum of each variable, and notes which of them decay."""
        if self.built:
            return
        super().build(variables)
        self._decays = tuple(
            id(variable) not in self._spared
            and not any(re.search(name, variable.name) for name in self._spared_names)
            for variable in variables
        )

    def update_step(self, gradient, variable, learning_rate):
        """One variable's step."""
        # As Keras's guide to own optimizers finds what belongs to a variable, which
        # under TensorFlow is not the `keras.Variable`, but the one inside.
        index = self._get_variable_index(variable)
        rate = ops.cast(learning_rate, variable.dtype)
        step = ops.cast(gradient, variable.dtype)
        if self.coupled_decay and self._decays[index]:
            decay = ops.cast(self.coupled_decay, variable.dtype)
            step = ops.add(step, ops.multiply(variable, decay))
        if self.momentum:
            momentum = ops.cast(self.momentum, variable.dtype)
            gathered = self.momentums[index]
            velocity = ops.add(ops.multiply(gathered, momentum), step)
            self.assign(gathered, velocity)
            if self.nesterov:
                step = ops.add(step, ops.multiply(velocity, momentum))
            else:
                step = velocity
        self.assign_sub(variable, ops.multiply(step, rate))

    def get_config(self):
        """The arguments that make this optimizer again."""
        return {**super().get_config(), "weight_decay": self.coupled_decay}
