"""One step of an `InteractiveDistiller`: the course, and the exam."""

import keras
from keras import ops

from keras_dtkd import backend
from keras_dtkd.core import arrays
from keras_dtkd.distiller import Distiller
from keras_dtkd.losses.reduction import undo_replica_scaling
from keras_dtkd.methods.ikd.lookahead import feedback_loss, feedback_objective
from keras_dtkd.teachers.sample_ids import model_inputs
from keras_dtkd.training.forward import StepBuilder
from keras_dtkd.training.step import ForwardPass, TrainingInputs, TrainingTargets


class FeedbackStep(Distiller):
    """A Distiller whose teacher runs inside of the step, and learns from an exam.

    Its subclass sets the attributes (`exam_for`, `feedback_data`, ...).
    """

    additional_logs = ("exam_loss",)
    teacher_is_frozen = False

    def _with_teacher_outputs(self, *args):
        *state, batch = args
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        targets = TrainingTargets(arrays.drop_placeholder(y))
        return *state, (TrainingInputs(x), targets, sample_weight)

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        """The course's loss, of the student; the exam's, of the teacher."""
        if not isinstance(y_pred, ForwardPass):
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        outputs = self.trainable_teacher(model_inputs(x.x), training=False)
        constant = keras.tree.map_structure(ops.stop_gradient, outputs)
        total = super().compute_loss(
            x,
            y._replace(teacher=ForwardPass(constant)),
            y_pred,
            sample_weight,
            training,
        )
        batch_size = ops.shape(keras.tree.flatten(x)[0])[0]
        exam = self._feedback_loss(x, y, y_pred, outputs, sample_weight, batch_size)
        exam = exam / backend.replicas()
        self.loss_trackers["exam_loss"].update_state(
            undo_replica_scaling(exam), sample_weight=batch_size
        )
        # Its gradient alone: the logged `loss` is the course's.
        exam = backend.weight_loss_by_batch_share(
            self.backend_session, exam, batch_size
        )
        return total + (exam - ops.stop_gradient(exam))

    def _feedback_loss(self, x, y, y_pred, teacher_outputs, sample_weight, batch_size):
        specs = self.output_specs.get()
        exam_x, exam_y = exam = self._sample_feedback_batch()
        if self.exam_for == "teacher":
            outputs = self.trainable_teacher(exam_x, training=False)
            return feedback_loss(specs.teacher.select_logits(outputs), exam_y)
        # Statistics have moved with the batch, and under JAX remember what moved them.
        state = self.student.non_trainable_variables
        trained = self.student.trainable_variables
        values = [ops.stop_gradient(v.value) for v in state]

        def forward(weights, x, training):
            mapping = zip([*trained, *state], [*weights, *values], strict=True)
            # A call, unlike `stateless_call`: not every `call` takes `training`, and
            # the layers within get it all the same.
            with keras.StatelessScope(list(mapping)):
                outputs = self.student(x, training=training)
            return specs.student.select_logits(outputs)

        weights = [v.value for v in trained]
        if self.exam_for == "student":
            return feedback_loss(forward(weights, exam_x, True), exam_y)
        course = self.distillation_losses["course"]
        y = y._replace(teacher=ForwardPass(teacher_outputs))
        step, output = StepBuilder(self, x, y, y_pred, sample_weight)()
        return feedback_objective(
            forward,
            [ops.stop_gradient(w) for w in weights],
            (step.x, step.y, step.teacher_logits),
            exam,
            self.estimator,
            self.lookahead_learning_rate,
            # What they are now: a callback may change the course's.
            course.temperature.hyperparameter("temperature") + 0.0,
            (
                course.effective_weight + 0.0,
                self.hyperparameter("task_weight") + 0.0,
            ),
            lambda v: backend.replicas() * course.reduce(v, output, step.sample_weight),
            lambda gradient: backend.all_reduce_mean(
                self.backend_session, gradient, batch_size
            ),
        )

    def _sample_feedback_batch(self):
        """Samples of the exam for this step."""
        x, y = self.feedback_data.exam
        if self.exam_batch_size is None:
            return x, y
        count = arrays.num_samples(x)
        # With repetition: a permutation of all would cost more than the exam.
        chosen = keras.random.randint(
            (self.exam_batch_size,), 0, count, seed=self.batch_seed_generator
        )
        return keras.tree.map_structure(lambda a: ops.take(a, chosen, axis=0), (x, y))
