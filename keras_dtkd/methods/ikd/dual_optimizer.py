"""One optimizer for the student's variables, and one for the teacher's."""

import keras


@keras.saving.register_keras_serializable("keras_dtkd")
class DualOptimizer(keras.optimizers.Optimizer):
    """Two optimizers as one Keras optimizer. `InteractiveDistiller` creates it.

    What a callback changes (`learning_rate`) is the student's.

    Args:
        student_optimizer: For all variables but the teacher's.
        teacher_optimizer: For the teacher's. `None` leaves them as they are.
        num_teacher_variables: How many of the last variables are the teacher's. May be
            set until it is built.
        name: Name of the optimizer.
    """

    def __init__(
        self,
        student_optimizer,
        teacher_optimizer,
        num_teacher_variables=0,
        name="dual_optimizer",
    ):
        super().__init__(learning_rate=0.0, name=name)
        self.student_optimizer = keras.optimizers.get(student_optimizer)
        self.teacher_optimizer = teacher_optimizer and keras.optimizers.get(
            teacher_optimizer
        )
        self.num_teacher_variables = num_teacher_variables

    def build(self, variables):
        """Creates the state of both optimizers."""
        if self.built:
            return
        super().build(variables)
        variables = list(variables)
        for optimizer, group in self._partition(variables):
            optimizer.build(group)
        trainable_teacher = variables[len(variables) - self.num_teacher_variables :]
        # A function, since Keras looks into lists for variables of its own.
        self._teacher_variables = lambda: trainable_teacher

    def _partition(self, values):
        """Each optimizer, with its part of `values`, one for each variable."""
        border = len(values) - self.num_teacher_variables
        yield self.student_optimizer, values[:border]
        if self.teacher_optimizer is not None:
            yield self.teacher_optimizer, values[border:]

    @property
    def variables(self):
        """The count of steps, and the state of both optimizers."""
        optimizers = [optimizer for optimizer, _ in self._partition([])]
        return [*super().variables, *(v for o in optimizers for v in o.variables)]

    def apply(self, grads, trainable_variables=None):
        if not self.built:
            self.build(trainable_variables)
        if trainable_variables is None:
            for optimizer, group in self._partition(list(grads)):
                optimizer.apply(group)
        else:
            pairs = list(zip(grads, trainable_variables, strict=True))
            for optimizer, group in self._partition(pairs):
                optimizer.apply(*zip(*group, strict=True))
        self.assign_add(self.iterations, keras.ops.ones((), self.iterations.dtype))

    def reset_teacher_optimizer(self):
        """Resets the teacher's optimizer to its state before the first step."""
        optimizer = self.teacher_optimizer
        if optimizer is None or not optimizer.built:
            return
        new = type(optimizer).from_config(optimizer.get_config())
        new.build(self._teacher_variables())
        for old, fresh in zip(optimizer.variables, new.variables, strict=True):
            old.assign(fresh)

    def finalize_variable_values(self, var_list):
        for optimizer, group in self._partition(list(var_list)):
            optimizer.finalize_variable_values(group)

    def exclude_from_weight_decay(self, var_list=None, var_names=None):
        # The distillation losses' variables are among the student's.
        self.student_optimizer.exclude_from_weight_decay(var_list, var_names)

    @property
    def learning_rate(self):
        """The learning rate of the student's optimizer."""
        return self.student_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, value):
        self.student_optimizer.learning_rate = value

    def get_config(self):
        serialize = keras.optimizers.serialize
        return {
            "name": self.name,
            "student_optimizer": serialize(self.student_optimizer),
            "teacher_optimizer": serialize(self.teacher_optimizer),
            "num_teacher_variables": self.num_teacher_variables,
        }
