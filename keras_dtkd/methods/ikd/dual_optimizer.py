"""One optimizer for what the student learns, another for what the teacher does."""

import keras


@keras.saving.register_keras_serializable("keras_dtkd")
class DualOptimizer(keras.optimizers.Optimizer):
    """Two optimizers that Keras takes for one. `InteractiveDistiller` makes it.

    What a callback changes (`learning_rate`) is the student's.

    Args:
        student_optimizer: For all variables but the teacher's.
        teacher_optimizer: For the teacher's, the last ones. `None` leaves them as they
            are.

    Attributes:
        student_optimizer: As above.
        teacher_optimizer: As above.
        num_teacher_variables: How many variables the teacher has. To be set before
            it is built.
    """

    def __init__(self, student_optimizer, teacher_optimizer, name="two_optimizers"):
        super().__init__(learning_rate=0.0, name=name)
        self.student_optimizer = keras.optimizers.get(student_optimizer)
        self.teacher_optimizer = (
            None
            if teacher_optimizer is None
            else keras.optimizers.get(teacher_optimizer)
        )
        self.num_teacher_variables = 0

    def build(self, variables):
        """Makes the state of both."""
        if self.built:
            return
        super().build(variables)
        variables = list(variables)
        for optimizer, part in self._partition(variables):
            optimizer.build(part)
        trainable_teacher = variables[len(variables) - self.num_teacher_variables :]
        # A function, since Keras looks into lists for variables of its own.
        self._teacher_variables = lambda: trainable_teacher

    def _partition(self, things):
        """What is there of `things`, one for each variable, for each optimizer."""
        border = len(things) - self.num_teacher_variables
        yield self.student_optimizer, things[:border]
        if self.teacher_optimizer is not None:
            yield self.teacher_optimizer, things[border:]

    @property
    def variables(self):
        """Its own count of steps, and the state of both."""
        own = super().variables
        return [*own, *(v for one, _ in self._partition([]) for v in one.variables)]

    def apply(self, grads, trainable_variables=None):
        """One step of both."""
        grads = list(grads)
        if not self.built:
            self.build(trainable_variables)
        taken = list(self._partition(list(trainable_variables or [None] * len(grads))))
        for (optimizer, part), (_, variables) in zip(
            self._partition(grads), taken, strict=True
        ):
            optimizer.apply(part, variables if trainable_variables else None)
        self.assign_add(self.iterations, keras.ops.ones((), self.iterations.dtype))

    def reset_teacher_optimizer(self):
        """The teacher's optimizer is what it was before its first step."""
        optimizer = self.teacher_optimizer
        if optimizer is None or not optimizer.built:
            return
        new = type(optimizer).from_config(optimizer.get_config())
        new.build(self._teacher_variables())
        for old, fresh in zip(optimizer.variables, new.variables, strict=True):
            old.assign(fresh)

    def finalize_variable_values(self, var_list):
        """What `use_ema` of either wants at the end."""
        for optimizer, part in self._partition(list(var_list)):
            optimizer.finalize_variable_values(part)

    def exclude_from_weight_decay(self, var_list=None, var_names=None):
        """Of the student's optimizer: the teacher's has nothing of ours."""
        self.student_optimizer.exclude_from_weight_decay(var_list, var_names)

    @property
    def learning_rate(self):
        """The student's."""
        return self.student_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, value):
        self.student_optimizer.learning_rate = value

    def get_config(self):
        """The arguments that make it again."""
        serialize = keras.optimizers.serialize
        teacher = self.teacher_optimizer
        return {
            "name": self.name,
            "student_optimizer": serialize(self.student_optimizer),
            "teacher_optimizer": None if teacher is None else serialize(teacher),
            "num_teacher_variables": self.num_teacher_variables,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Makes it from what `get_config` gave."""
        config = dict(config)
        count = config.pop("num_teacher_variables")
        for name in ("student_optimizer", "teacher_optimizer"):
            if config[name] is not None:
                config[name] = keras.optimizers.deserialize(
                    config[name], custom_objects=custom_objects
                )
        optimizer = cls(**config)
        optimizer.num_teacher_variables = count
        return optimizer
