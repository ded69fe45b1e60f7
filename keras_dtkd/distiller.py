"""A Keras model whose training step hears the teacher first."""

import keras

from keras_dtkd import teachers
from keras_dtkd.core.hyperparameters import Hyperparameter, HyperparameterMixin
from keras_dtkd.held import Held
from keras_dtkd.losses.resolve import resolve_losses
from keras_dtkd.measuring import Measured
from keras_dtkd.runs import Runs
from keras_dtkd.saving import Saved
from keras_dtkd.stepping import Stepping
from keras_dtkd.teachers import fingerprint, sample_ids
from keras_dtkd.training import feature_capture
from keras_dtkd.training.input_gradients import input_gradient_losses
from keras_dtkd.validation import models
from keras_dtkd.views.resolve import resolve_views as views_by_name
from keras_dtkd.views.resolve import validate_views as check_views


@keras.saving.register_keras_serializable("keras_dtkd")
class Distiller(Runs, Saved, Measured, Stepping, HyperparameterMixin, keras.Model):
    """Trains a small model, the student, from a large one, the teacher.

    `total = task_weight · task + Σ weight · ramp · loss`, plus the student's
    regularizers. Everything else is Keras's own `fit`: callbacks, `sample_weight`,
    `class_weight`, masks, distribution, mixed precision, gradient accumulation.
    `distiller.student` is the product; `evaluate`, `predict` and calls are its.

    Args:
        teacher: A `keras.Model`, a `keras_dtkd.teachers.Teacher`, or a list of them
            (an `Ensemble`). It stays as it is, in every bit, and is in no checkpoint.
        student: A `keras.Model`. If it is compiled, its optimizer, loss and metrics are
            taken over; else Adam, the cross-entropy that fits, and accuracy.
        distillation_losses: One loss, a list, or a dict of names. `DTKD()` by default.
        task_weight: Factor of the loss on the labels. Not negative. May be changed
            while training runs.
        from_logits: `True` if the models give logits, `False` if probabilities,
            `"auto"` to find out for each. Logits are recovered from probabilities.
        output: Name or index of the output to distil, for models with several.
        views: What the batch looks like to losses that name a view: a
            `keras_dtkd.views.View`, a list, or a dict of names. Each view in use costs
            one more pass of the student and of the teacher.
        evaluate_distillation: Whether `evaluate` (and so validation) reports the
            distillation losses too, which takes the teacher's time.

    Logs of `fit`: `loss`, `task_loss`, each loss by its name (without its weight), the
    means `student_temperature` and `teacher_temperature`, `agreement` (share of
    samples with the same first choice), and the student's metrics.

    Raises:
        ValueError: Whatever is wrong with models or data, before the first step.

    Example:

    >>> distiller = keras_dtkd.Distiller(teacher, student)
    >>> distiller.fit(x_train, y_train, epochs=60, validation_data=(x_val, y_val))
    >>> distiller.student.save("student.keras")
    """

    task_weight = Hyperparameter(minimum=0.0)

    def __init__(
        self,
        teacher,
        student,
        distillation_losses=None,
        *,
        task_weight=1.0,
        from_logits="auto",
        output=None,
        views=None,
        evaluate_distillation=False,
        name="distiller",
        **kwargs,
    ):
        models.validate_arguments(student, from_logits)
        models.reject_foreign_arguments(kwargs)
        # The student's policy decides about loss scaling. Inputs stay as they are:
        # each model casts its own.
        kwargs.setdefault("dtype", student.dtype_policy)
        super().__init__(name=name, autocast=False, **kwargs)
        self.held = Held()
        self.student = student
        self.distillation_losses = resolve_losses(distillation_losses)
        self.views = views_by_name(views)
        check_views(self.distillation_losses, self.views)
        self.task_weight = task_weight
        self.from_logits = from_logits
        self.distilled_output = output
        self.evaluate_distillation = evaluate_distillation
        self.trackers = {
            key: keras.metrics.Mean(name=key) for key in self._tracker_names()
        }
        asked = input_gradient_losses(self.distillation_losses).values()
        if any(loss.input_gradient != "exact" for loss in asked):
            self.directions = keras.random.SeedGenerator()
        if teacher is not None:
            self._set_teacher(teacher)
        self.built = student.built

    # What is held.

    @property
    def teacher(self):
        """The teacher, as it was given. Set it again after loading."""
        teacher = self.held.teacher
        return teacher.model if isinstance(teacher, teachers.ModelTeacher) else teacher

    def __setattr__(self, name, value):
        # Keras tracks (and torch registers) a model before any property setter
        # hears of it.
        if name == "teacher":
            self._set_teacher(value)
            return
        if name == "evaluate_distillation" and value != getattr(self, name, value):
            # What was compiled hears the teacher, or does not.
            self.test_function = None
        super().__setattr__(name, value)

    def _set_teacher(self, value):
        teacher = teachers.resolve_teacher(value)
        models.validate_no_shared_weights(teacher, self.student)
        expected = self.held.fingerprint
        if expected is not None:
            fingerprint.verify_fingerprint(teacher.fingerprint(), expected)
        self.held.teacher = teacher
        self.held.cached_fingerprint = None
        self.held.looked = self.held.stepped = None
        # What was compiled has heard another teacher.
        self.train_function = None
        self.test_function = None

    def __dir__(self):
        # Saving walks over all attributes: it would put the teacher into the file.
        return [name for name in super().__dir__() if name != "teacher"]

    @property
    def output_names(self):
        """The student's, so that losses and metrics may be given by name."""
        return self.student.output_names

    def _tracker_names(self):
        names = ["task_loss", *self.distillation_losses]
        for name in self.distillation_losses:
            names += self.temperature_log_names(name)
        return [*names, "agreement"]

    def temperature_log_names(self, loss_name):
        """The names under which a loss's temperatures are logged.

        Plain for the first loss that has any, with the loss's name for others.
        """
        having = [
            name
            for name, loss in self.distillation_losses.items()
            if loss.get_temperatures()
        ]
        if loss_name not in having:
            return []
        prefix = "" if loss_name == having[0] else f"{loss_name}_"
        return [f"{prefix}student_temperature", f"{prefix}teacher_temperature"]

    def build(self, input_shape):
        """Builds the student."""
        if not self.student.built:
            self.student.build(input_shape)
        self.built = True

    def call(self, inputs, training=None):
        """The student's outputs."""
        # JAX's step calls this method itself, outside of any context that would
        # tell the student whether it trains.
        inputs = sample_ids.model_inputs(inputs)
        if self.held.asked is not None:
            return self.answer_gradient(inputs, training)
        names = self._layers_named("student")
        if not names:
            return self.student(inputs, training=training)
        with feature_capture.capture(self.student, names) as recorded:
            outputs = self.student(inputs, training=training)
        self.held.student_features = recorded
        return outputs

    @property
    def losses(self):
        """Regularizers and `add_loss`; none while the task loss alone is computed."""
        return [] if self.held.only_task_loss else super().losses
