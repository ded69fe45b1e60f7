"""One step: the teacher hears the batch, each loss its `Step`."""

from typing import Any

import keras
from keras import ops

from keras_dtkd import backend
from keras_dtkd.backend.told import Told
from keras_dtkd.core import arrays, logits
from keras_dtkd.core.masking import MaskPreserving
from keras_dtkd.functional.statistics import agreement
from keras_dtkd.held import Heard, flag
from keras_dtkd.losses.reduction import reduce, undo_replica_scaling
from keras_dtkd.preparation import data_peek, prepare
from keras_dtkd.teachers import sample_ids
from keras_dtkd.training import feature_capture
from keras_dtkd.training.input_gradients import InputGradients, input_gradient_losses
from keras_dtkd.training.step import Step
from keras_dtkd.validation import models

_RECOVER = MaskPreserving(logits.to_logits)


class Stepping(InputGradients):
    """The part of the Distiller that takes a step."""

    held: Any

    def train_step(self, *args):
        """Keras's own step, on a batch that the teacher has heard."""
        *state, batch = args
        backend.zero_grad(self.trainable_variables)
        x, heard, sample_weight = self._hear(batch, state)
        with self.asking(heard):
            return super().train_step(*state, (x, heard, sample_weight))

    def test_step(self, *args):
        """Keras's own step; the teacher is silent unless `evaluate_distillation`."""
        *state, batch = args
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        labels = arrays.drop_placeholder(y.y if isinstance(y, Told) else y)
        self.held.test_labels = labels is not None
        if not self.evaluate_distillation:
            return super().test_step(*state, (x, y, sample_weight))
        x, heard, sample_weight = self._hear(batch, state)
        with self.asking(heard):
            return super().test_step(*state, (x, heard, sample_weight))

    def _hear(self, batch, state=()):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        y, values = y if isinstance(y, Told) else (y, None)
        labels = arrays.drop_placeholder(y)
        if input_gradient_losses(self.distillation_losses):
            heard = self.hear_gradient(x, labels, values, state)
        else:
            outputs, recorded = self._ask(x, values)
            heard = Heard(labels, outputs, recorded, values)
        return x, heard, sample_weight

    def _ask(self, x, values):
        """The teacher's outputs, and of the layers that losses name."""
        teacher = self.held.teacher
        names = self._layers_named("teacher")
        if not names:
            return backend.teacher_forward(teacher, x, values), {}
        with feature_capture.capture(teacher.model, names) as recorded:
            return backend.teacher_forward(teacher, x, values), recorded

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
        y = arrays.drop_placeholder(heard.y if heard else y)
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
            total = total + self.hyperparameter("task_weight") * ops.cast(
                task, "float32"
            )
        for loss in extra:
            total = total + ops.sum(ops.cast(loss, "float32")) / backend.replicas()
        return (
            backend.weight_loss_by_batch_share(self, total, batch)
            if training
            else total
        )

    def _distillation_loss(self, x, heard, y_pred, sample_weight, training, batch):
        on = {None: self._step(x, heard, y_pred, sample_weight, training)}
        total = ops.zeros((), dtype="float32")
        for name, value in self._values(on, x, heard, sample_weight, training):
            loss = self.distillation_losses[name]
            step, student_output = on[loss.view]
            self._note(name, value, batch)
            total = total + loss.scale * value
            keys = self.temperature_log_names(name)
            for rule in loss.get_temperatures()[:1]:
                means = rule.take_latest()
                for key, mean in zip(keys, means or (), strict=False):
                    # Of every sample's shape, so that a mask finds its positions.
                    mean = mean + ops.zeros_like(step.student_logits[..., :1])
                    self._note(key, reduce(mean[..., 0], student_output), batch)
        step, student_output = on[None]
        agreed = agreement(step.student_logits, step.teacher_logits)
        self._note("agreement", reduce(agreed, student_output), batch)
        return total

    def _values(self, on, x, heard, sample_weight, training):
        """Each loss's name and mean. `on` has the step on the batch, and gets others.

        The next loss is computed when the caller has dealt with one.
        """
        for name, loss in self.distillation_losses.items():
            if loss.view not in on:
                on[loss.view] = self._view(loss.view, x, heard, sample_weight, training)
            step, output = on[loss.view]
            yield name, loss.reduce(loss.compute(step), output, step.sample_weight)

    def compute_losses(self, x, y=None):
        """The distillation losses of one batch, outside of any training step.

        Args:
            x: A batch of inputs.
            y: Its labels. Optional.

        Returns:
            A dict: the mean of each loss, by name, without its weight.
        """
        if self.held.heads is None:
            sample = data_peek.peek(x, y)[0]
            models.warn_teacher_at_chance(
                prepare.inspect_models(self, sample), sample.y
            )
        x, heard, _ = self._hear((x, y, None))
        with self.asking(heard):
            outputs = self(x, training=False)
        on = {None: self._step(x, heard, outputs, None, False)}
        means = dict(self._values(on, x, heard, None, False))
        for loss in self.distillation_losses.values():
            for rule in loss.get_temperatures():
                rule.take_latest()
        self.held.student_features = {}
        return means

    def _view(self, name, x, heard, sample_weight, training):
        """The step of both models on a view of the batch."""
        seen = self.views[name](sample_ids.model_inputs(x))
        outputs, recorded = self._ask(seen, heard.values)
        # Unlike on the batch itself, a gradient is being recorded here.
        outputs, recorded = keras.tree.map_structure(
            ops.stop_gradient, (outputs, recorded)
        )
        heard = Heard(None, outputs, recorded)
        y_pred = self(seen, training=training)
        return self._step(seen, heard, y_pred, sample_weight, training)

    def _step(self, x, heard, y_pred, sample_weight, training):
        student_output = logits.select_output(
            y_pred, self.distilled_output, self._names()
        )
        # The batch itself comes before any view of it, for which there is none.
        gradient, self.held.student_gradient = self.held.student_gradient, None
        step = Step(
            x=sample_ids.model_inputs(x),
            y=self._of_output(heard.y, y_pred),
            sample_weight=self._of_output(sample_weight, y_pred),
            student_outputs=y_pred,
            teacher_outputs=heard.outputs,
            student_logits=_RECOVER(student_output, head=self._heads()[0]),
            teacher_logits=self._teacher_logits(heard.outputs),
            student_features=self.held.student_features,
            teacher_features=heard.features,
            student_input_gradient=gradient,
            teacher_input_gradient=heard.gradient,
            student=self.student,
            teacher=self.held.teacher,
            training=training,
        )
        return step, student_output

    def _of_output(self, value, y_pred):
        """What of labels or weights belongs to the distilled output, or `None`."""
        several = dict | list | tuple
        if not isinstance(y_pred, several) or not isinstance(value, several):
            return value
        try:
            return logits.select_output(value, self.distilled_output, self._names())
        except KeyError:
            return None

    def _teacher_logits(self, outputs):
        output = logits.select_output(
            outputs, self.distilled_output, self._names(self.teacher)
        )
        return logits.to_logits(output, self._heads()[1])

    def _names(self, model=None):
        return getattr(self.student if model is None else model, "output_names", None)

    def _heads(self):
        if self.held.heads is None:
            return logits.LOGITS, logits.LOGITS
        return self.held.heads

    def _note(self, name, value, batch):
        # Weighted as Keras weighs `loss`: a short last batch counts for what it is.
        self.trackers[name].update_state(
            undo_replica_scaling(value), sample_weight=batch
        )
