"""A Keras model whose training step hears the teacher first."""

import keras
from keras import ops

from keras_dtkd import backend, checks, features, logits, teachers
from keras_dtkd.backend.told import Told
from keras_dtkd.functional.statistics import agreement
from keras_dtkd.held import Heard, Held, flag
from keras_dtkd.knobs import Knob, Knobs
from keras_dtkd.losses.base import reduce, unscaled
from keras_dtkd.losses.collect import collect
from keras_dtkd.masses import Keeping
from keras_dtkd.measuring import Measured
from keras_dtkd.runs import Runs
from keras_dtkd.saving import Saved
from keras_dtkd.step import Step

_RECOVER = Keeping(logits.recover)


@keras.saving.register_keras_serializable("keras_dtkd")
class Distiller(Runs, Saved, Measured, Knobs, keras.Model):
    """Trains a small model, the student, from a large one, the teacher.

    `total = task_weight · task + Σ weight · ramp · loss`, plus the student's
    regularizers. Everything else is Keras's own `fit`: callbacks, `sample_weight`,
    `class_weight`, masks, distribution, mixed precision, gradient accumulation.
    `distiller.student` is the product; `evaluate`, `predict` and calls are its.

    Args:
        teacher: A `keras.Model`, or a `keras_dtkd.teachers.Teacher`. It stays as it is,
            in every bit, and is in no checkpoint.
        student: A `keras.Model`. If it is compiled, its optimizer, loss and metrics are
            taken over; else Adam, the cross-entropy that fits, and accuracy.
        distillation_losses: One loss, a list, or a dict of names. `DTKD()` by default.
        task_weight: Factor of the loss on the labels. Not negative. May be changed
            while training runs.
        from_logits: `True` if the models give logits, `False` if probabilities,
            `"auto"` to find out for each. Logits are recovered from probabilities.
        output: Name or index of the output to distil, for models with several.
        evaluate_teacher: Whether `evaluate` (and so validation) reports the
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

    task_weight = Knob(minimum=0.0)

    def __init__(
        self,
        teacher,
        student,
        distillation_losses=None,
        *,
        task_weight=1.0,
        from_logits="auto",
        output=None,
        evaluate_teacher=False,
        name="distiller",
        **kwargs,
    ):
        checks.arguments(student, from_logits)
        # The student's policy decides about loss scaling. Inputs stay as they are:
        # each model casts its own.
        kwargs.setdefault("dtype", student.dtype_policy)
        super().__init__(name=name, autocast=False, **kwargs)
        self.held = Held()
        self.student = student
        self.distillation_losses = collect(distillation_losses)
        self.task_weight = task_weight
        self.from_logits = from_logits
        self.output_key = output
        self.evaluate_teacher = evaluate_teacher
        self.trackers = {
            key: keras.metrics.Mean(name=key) for key in self._tracker_names()
        }
        if teacher is not None:
            self._set_teacher(teacher)
        self.built = student.built

    # What is held.

    @property
    def teacher(self):
        """The teacher, as it was given. Set it again after loading."""
        teacher = self.held.teacher
        return teacher.model if isinstance(teacher, teachers.Live) else teacher

    def __setattr__(self, name, value):
        # Keras tracks (and torch registers) a model before any property setter
        # hears of it.
        if name == "teacher":
            self._set_teacher(value)
        else:
            super().__setattr__(name, value)

    def _set_teacher(self, value):
        teacher = teachers.get(value)
        checks.different_models(teacher, self.student)
        expected = self.held.fingerprint
        if expected is not None:
            checks.same_fingerprint(teacher.fingerprint(), expected)
        self.held.teacher = teacher
        self.held.cached_fingerprint = None
        self.held.looked = None
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
            names += self.temperature_names(name)
        return [*names, "agreement"]

    def temperature_names(self, loss_name):
        """The names under which a loss's temperatures are logged.

        Plain for the first loss that has any, with the loss's name for others.
        """
        having = [
            name
            for name, loss in self.distillation_losses.items()
            if loss.temperature_rules()
        ]
        if loss_name not in having:
            return []
        prefix = "" if loss_name == having[0] else f"{loss_name}_"
        return [f"{prefix}student_temperature", f"{prefix}teacher_temperature"]

    # One step.

    def build(self, input_shape):
        """Builds the student."""
        if not self.student.built:
            self.student.build(input_shape)
        self.built = True

    def call(self, inputs, training=None):
        """The student's outputs."""
        # JAX's step calls this method itself, outside of any context that would
        # tell the student whether it trains.
        names = self._layers_named("student")
        if not names:
            return self.student(inputs, training=training)
        with features.recorded(self.student, names) as recorded:
            outputs = self.student(inputs, training=training)
        self.held.student_features = recorded
        return outputs

    def train_step(self, *args):
        """Keras's own step, on a batch that the teacher has heard."""
        *state, data = args
        return super().train_step(*state, self._hear(data))

    def test_step(self, *args):
        """Keras's own step; the teacher is silent unless `evaluate_teacher`."""
        *state, data = args
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        self.held.test_labels = (y.y if isinstance(y, Told) else y) is not None
        if self.evaluate_teacher:
            x, y, sample_weight = self._hear(data)
        return super().test_step(*state, (x, y, sample_weight))

    def _hear(self, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        y, values = y if isinstance(y, Told) else (y, None)
        teacher = self.held.teacher
        names = self._layers_named("teacher")
        if names:
            with features.recorded(teacher.model, names) as recorded:
                outputs = backend.hear(teacher, x, values)
        else:
            recorded, outputs = {}, backend.hear(teacher, x, values)
        return x, Heard(y, outputs, recorded), sample_weight

    def _layers_named(self, side):
        losses = self.distillation_losses.values()
        return sorted({n for loss in losses for n in getattr(loss, f"{side}_layers")})

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        """The total: task, regularizers, and each distillation loss.

        Without the teacher (in `evaluate`) it is the student's own loss.
        """
        heard = y if isinstance(y, Heard) else None
        y = heard.y if heard else y
        if heard is None:
            if y is None or self.loss is None:
                return ops.zeros(())
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        batch = ops.shape(keras.tree.flatten(x)[0])[0]
        total = self._distillation_loss(
            x, heard, y_pred, sample_weight, training, batch
        )
        self.held.student_features = {}
        # Read before they are hidden: under JAX they are this trace's.
        extra = self.losses
        if y is not None and self.loss is not None:
            with flag(self.held, "only_task_loss"):
                task = super().compute_loss(x, y, y_pred, sample_weight, training)
            self._note("task_loss", task, batch)
            total = total + self.knob("task_weight") * ops.cast(task, "float32")
        for loss in extra:
            total = total + ops.sum(ops.cast(loss, "float32")) / backend.replicas()
        return backend.counted(self, total, batch) if training else total

    def _distillation_loss(self, x, heard, y_pred, sample_weight, training, batch):
        step, student_output = self._step(x, heard, y_pred, sample_weight, training)
        total = ops.zeros((), dtype="float32")
        for name, loss in self.distillation_losses.items():
            value = loss.reduce(loss.compute(step), student_output, step.sample_weight)
            self._note(name, value, batch)
            total = total + loss.scale * value
            keys = self.temperature_names(name)
            for rule in loss.temperature_rules()[:1]:
                means = rule.take_latest()
                for key, mean in zip(keys, means or (), strict=False):
                    # Of every sample's shape, so that a mask finds its positions.
                    mean = mean + ops.zeros_like(step.student_logits[..., :1])
                    self._note(key, reduce(mean[..., 0], student_output), batch)
        agreed = agreement(step.student_logits, step.teacher_logits)
        self._note("agreement", reduce(agreed, student_output), batch)
        return total

    def _step(self, x, heard, y_pred, sample_weight, training):
        student_output = logits.pick(y_pred, self.output_key, self._names())
        teacher_output = logits.pick(
            heard.outputs, self.output_key, self._names(self.teacher)
        )
        student_head, teacher_head = self._heads()
        nested = isinstance(y_pred, dict | list | tuple)

        def own(value):
            if not nested or not isinstance(value, dict | list | tuple):
                return value
            try:
                return logits.pick(value, self.output_key, self._names())
            except KeyError:
                return None

        step = Step(
            x=x,
            y=own(heard.y),
            sample_weight=own(sample_weight),
            student_outputs=y_pred,
            teacher_outputs=heard.outputs,
            student_logits=_RECOVER(student_output, head=student_head),
            teacher_logits=logits.recover(teacher_output, teacher_head),
            student_features=self.held.student_features,
            teacher_features=heard.features,
            student=self.student,
            teacher=self.held.teacher,
            training=training,
        )
        return step, student_output

    def _names(self, model=None):
        return getattr(self.student if model is None else model, "output_names", None)

    def _heads(self):
        if self.held.heads is None:
            return logits.LOGITS, logits.LOGITS
        return self.held.heads

    def _note(self, name, value, batch):
        # Weighted as Keras weighs `loss`: a short last batch counts for what it is.
        self.trackers[name].update_state(unscaled(value), sample_weight=batch)

    @property
    def losses(self):
        """Regularizers and `add_loss`; none while the task loss alone is computed."""
        return [] if self.held.only_task_loss else super().losses
