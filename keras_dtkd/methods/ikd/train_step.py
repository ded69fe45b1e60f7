"""One step of an `InteractiveDistiller`: the course, and the exam."""

import keras
from keras import ops

from keras_dtkd import backend
from keras_dtkd.core import arrays, logits
from keras_dtkd.core.masking import MaskPreserving
from keras_dtkd.distiller import Distiller
from keras_dtkd.held import Heard
from keras_dtkd.methods.ikd.lookahead import feedback_loss, feedback_objective
from keras_dtkd.teachers import sample_ids

_RECOVER = MaskPreserving(logits.to_logits)


class FeedbackStep(Distiller):
    """A Distiller that hears its teacher inside of the step, and examines.

    What it needs to know (`exam_for`, `look_ahead`, ...) is set by its subclass.
    """

    def _tracker_names(self):
        return [*super()._tracker_names(), "exam_loss"]

    def _hear(self, batch, state=()):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        return x, Heard(arrays.drop_placeholder(y), None, {}), sample_weight

    def _step(self, x, heard, *args):
        if heard.outputs is None:
            # Of `compute_losses`, outside of any step.
            heard = heard._replace(
                outputs=backend.teacher_forward(self.held.teacher, x)
            )
        return super()._step(x, heard, *args)

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        """The course's loss, of the student; the exam's, of the teacher."""
        if not isinstance(y, Heard):
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        said = self.trainable_teacher(sample_ids.model_inputs(x), training=False)
        constant = keras.tree.map_structure(ops.stop_gradient, said)
        heard = y._replace(outputs=constant)
        total = super().compute_loss(x, heard, y_pred, sample_weight, training)
        batch = ops.shape(keras.tree.flatten(x)[0])[0]
        exam = self._exam(x, y.y, y_pred, said, sample_weight, batch)
        exam = exam / backend.replicas()
        self._note("exam_loss", exam, batch)
        # Its gradient alone: the logged `loss` is the course's.
        exam = backend.weight_loss_by_batch_share(self, exam, batch)
        return total + (exam - ops.stop_gradient(exam))

    def _exam(self, x, labels, y_pred, said, sample_weight, batch):
        exam = self._drawn()
        if self.exam_for == "teacher":
            told = self.trainable_teacher(exam[0], training=False)
            return feedback_loss(self._logits(told, self.trainable_teacher, 1), exam[1])
        # Statistics have moved with the batch, and under JAX remember what moved them.
        state = self.student.non_trainable_variables
        learned = self.student.trainable_variables
        values = [ops.stop_gradient(v.value) for v in state]

        def speak(weights, x, training):
            given = zip([*learned, *state], [*weights, *values], strict=True)
            # A call, unlike `stateless_call`: not every `call` takes `training`, and
            # the layers within hear of it all the same.
            with keras.StatelessScope(list(given)):
                outputs = self.student(x, training=training)
            return self._logits(outputs, self.student, 0)

        weights = [v.value for v in learned]
        if self.exam_for == "student":
            return feedback_loss(speak(weights, exam[0], True), exam[1])
        course = self.distillation_losses["course"]
        # Those of the distilled output, whose mask counts in the course.
        output = logits.select_output(y_pred, self.distilled_output, self._names())
        labels = self._of_output(labels, y_pred)
        sample_weight = self._of_output(sample_weight, y_pred)
        return feedback_objective(
            speak,
            [ops.stop_gradient(w) for w in weights],
            (
                sample_ids.model_inputs(x),
                labels,
                self._logits(said, self.trainable_teacher, 1),
            ),
            exam,
            self.estimator,
            self.look_ahead,
            # What they are now: a callback may change the course's.
            course.temperature.hyperparameter("temperature") + 0.0,
            (course.scale + 0.0, self.hyperparameter("task_weight") + 0.0),
            lambda v: backend.replicas() * course.reduce(v, output, sample_weight),
            lambda slope: backend.all_reduce_mean(self, slope, batch),
        )

    def _drawn(self):
        """The exam of this step."""
        x, y = self.held.exam
        if self.exam_batch_size is None:
            return x, y
        count = arrays.num_samples(x)
        # With repetition: a permutation of all would cost more than the exam.
        chosen = keras.random.randint(
            (self.exam_batch_size,), 0, count, seed=self.draws
        )
        return keras.tree.map_structure(lambda a: ops.take(a, chosen, axis=0), (x, y))

    def _logits(self, outputs, model, which):
        output = logits.select_output(
            outputs, self.distilled_output, self._names(model)
        )
        return _RECOVER(output, head=self._heads()[which])
