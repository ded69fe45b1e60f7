"""A Distiller whose teacher learns from its student's exams."""

import types

import keras
import numpy as np
from keras import ops

from keras_dtkd import backend
from keras_dtkd.core import arrays
from keras_dtkd.core.arguments import constructor_arguments
from keras_dtkd.core.issue import report_issues
from keras_dtkd.distiller import Distiller
from keras_dtkd.losses import KD
from keras_dtkd.losses.reduction import undo_replica_scaling
from keras_dtkd.methods.ikd import validation
from keras_dtkd.methods.ikd.dual_optimizer import DualOptimizer
from keras_dtkd.methods.ikd.lookahead import feedback_loss, feedback_objective
from keras_dtkd.preparation import saved_state
from keras_dtkd.teachers.sample_ids import model_inputs
from keras_dtkd.training.forward import StepBuilder
from keras_dtkd.training.step import ForwardPass, TrainingInputs, TrainingTargets


@keras.saving.register_keras_serializable("keras_dtkd")
class InteractiveDistiller(Distiller):
    """Distillation with student feedback (IKD): **the teacher changes**.

    Each step is two. The course: the student learns from the teacher's soft targets,
    `α τ² KL + (1 − α) CE`. The exam: what the student would be after one step of plain
    SGD on that loss is examined on other labelled samples, and the teacher's optimizer
    lowers the exam's cross-entropy, by changing the soft targets. Both happen in one
    compiled step, on the weights as they were before it.

    The teacher runs in inference mode: no dropout, and its batch statistics stay. Its
    frozen layers stay frozen, and its regularizers count nowhere; the student's count
    in the course, but not in the look-ahead. The exam should be drawn from the training
    data: else a comparison with other methods is one of labels.

    Args:
        teacher: A `keras.Model` with something to train in it.
        student: A `keras.Model`.
        distillation_losses: `None`: the loss is the method's own.
        temperature: The τ of the soft targets. Positive.
        alpha: Their weight α in the course, in (0, 1]; the labels have the rest.
        lookahead_learning_rate: Learning rate η of the look-ahead step. Positive.
            The teacher's gradient is proportional to it: its optimizer should not
            depend on the scale (Adam).
        estimator: How the teacher's gradient is computed. `"exact"`: a derivative of a
            derivative, which PyTorch cannot compile. `"jvp"`: the same number, from a
            forward-mode derivative of the student, which TensorFlow's XLA compiles for
            minutes. `"finite_difference"`: from two more passes, to about 1e-3.
        exam_for: `"feedback"` is the method. Two controls: `"teacher"`, the teacher is
            fine-tuned on the exam's labels; `"student"`, the student learns them beside
            its course and the teacher stays.
        teacher_optimizer: For the teacher. `Adam(3e-4)` by default.
        exam_batch_size: How many samples of the exam are drawn for each step. All
            of them by default.
        from_logits: As the `Distiller`'s.
        output: As the `Distiller`'s.

    Logs beside the `Distiller`'s: `exam_loss`, after the look-ahead (in the controls,
    of the model that learns from it), and `course`, τ² KL without its weight α. `loss`
    is the course's, `α course + (1 − α) task_loss` and the student's regularizers.

    Raises:
        ValueError: Whatever is wrong with models or data, before the first step.

    Reference:
        Liu et al., "Learning to Teach with Student Feedback", arXiv 2109.04641. Its
        code is not public, and its formulas could not be verified: the look-ahead is
        that of MetaDistil (Zhou et al., arXiv 2106.04570), in whose code teacher and
        student step one after the other. The first-order form is ours; docs/ikd.md
        derives it.

    Example:

    >>> distiller = InteractiveDistiller(teacher, student)
    >>> distiller.fit(x, y, epochs=30, exam=(x_exam, y_exam))
    >>> distiller.restore_teacher()
    """

    additional_logs = ("exam_loss",)
    teacher_is_frozen = False

    # Compiled into a step, or given to the course's loss: no change would count.
    fixed_settings = (
        *("temperature", "alpha", "lookahead_learning_rate"),
        *("estimator", "exam_for", "exam_batch_size"),
    )

    def __init__(
        self,
        teacher,
        student,
        distillation_losses=None,
        *,
        temperature=2.0,
        alpha=0.5,
        lookahead_learning_rate=0.1,
        estimator="exact",
        exam_for="feedback",
        teacher_optimizer=None,
        exam_batch_size=None,
        from_logits="auto",
        output=None,
        name="interactive_distiller",
        **kwargs,
    ):
        validation.reject_loss_arguments(distillation_losses, kwargs)
        validation.validate_arguments(
            temperature, alpha, lookahead_learning_rate, estimator, exam_for, teacher
        )
        super().__init__(
            teacher,
            student,
            {"course": KD(temperature=temperature, weight=alpha)},
            task_weight=1.0 - alpha,
            from_logits=from_logits,
            output=output,
            name=name,
            **kwargs,
        )
        self.temperature, self.alpha = temperature, alpha
        self.lookahead_learning_rate = lookahead_learning_rate
        self.estimator, self.exam_for = estimator, exam_for
        self.exam_batch_size = exam_batch_size
        # Keras neither tracks nor saves what is in it; the optimizer it would save
        # twice. The teacher's weights are those before it was trained.
        self.feedback_data = types.SimpleNamespace(
            exam=None,
            initial_teacher_weights=None,
            teacher_optimizer=keras.optimizers.get(
                teacher_optimizer or keras.optimizers.Adam(3e-4)
            ),
        )
        # Tracked, unlike a Distiller's: it trains and is saved.
        self.trainable_teacher = teacher
        self.batch_seed_generator = keras.random.SeedGenerator(name="feedback_batches")

    def __setattr__(self, name, value):
        if name in self.fixed_settings and value != getattr(self, name, value):
            raise ValueError(
                f"`InteractiveDistiller`: its `{name}` cannot be changed. Make another "
                f"one: `InteractiveDistiller(teacher, student, {name}={value!r})`."
            )
        super().__setattr__(name, value)

    @property
    def losses(self):
        """The student's alone: Keras would add those of the teacher, tracked here."""
        losses = self.student.losses
        if keras.config.backend() == "jax":
            # There Keras keeps one list from a step's forward pass to its loss: what
            # this property gave in that pass. Else it makes a new list each time.
            kept = super(Distiller, self).losses
            losses = kept if kept is super(Distiller, self).losses else losses
        return [ops.cast(loss, "float32") for loss in losses]

    def _set_teacher(self, value):
        if value is not getattr(self, "trainable_teacher", value):
            raise ValueError(
                "`InteractiveDistiller`: its teacher is trained and saved with it, and "
                "cannot be exchanged. Make another `InteractiveDistiller`."
            )
        super()._set_teacher(value)

    def compile(self, optimizer="rmsprop", *args, **kwargs):
        """As `keras.Model.compile`; the optimizer is the student's."""
        teacher = self.trainable_teacher
        if "teacher_optimizer" in kwargs:
            raise TypeError(
                "`InteractiveDistiller.compile`: the optimizer is the student's. Give "
                "the teacher's to the constructor: `teacher_optimizer=...`."
            )
        if not isinstance(optimizer, DualOptimizer):
            for_teacher = self.exam_for != "student"
            optimizer = DualOptimizer(
                optimizer, self.feedback_data.teacher_optimizer if for_teacher else None
            )
        super().compile(optimizer, *args, **kwargs)
        optimizer.num_teacher_variables = len(teacher.trainable_variables)

    def fit(self, x=None, y=None, *args, exam=None, **kwargs):
        """As `Distiller.fit`, on the course's `x` and `y`.

        `exam` is `(x, y)`, see `set_exam`. May be left out if a call before gave it.
        """
        if exam is not None:
            if not isinstance(exam, list | tuple) or len(exam) != 2:
                raise ValueError(
                    "`InteractiveDistiller`: `exam` is no pair of inputs and labels. "
                    "Give `exam=(x, y)`."
                )
            self.set_exam(*exam)
        return super().fit(x, y, *args, **kwargs)

    def set_exam(self, x, y=None):
        """Sets the samples that the exam is held on; for `train_on_batch`.

        Args:
            x: Inputs, arrays as the student takes them.
            y: Their labels, integers or a number for each class, of the distilled
                output or of all.

        Raises:
            ValueError: No labels, not one a sample, or fewer than `exam_batch_size`.
        """
        exam = x, validation.validate_exam(self, x, y)
        self.feedback_data.exam = keras.tree.map_structure(ops.convert_to_tensor, exam)
        self.train_function = None
        # `train_on_batch` has not validated this exam yet.
        self.preparation_cache.clear()

    def validate_before_training(self, context):
        """Validates the exam, and keeps the teacher's weights the first time."""
        teacher = self.trainable_teacher
        if not self.optimizer.built:
            # It may have been built, or thawed, since it was compiled.
            self.optimizer.num_teacher_variables = len(teacher.trainable_variables)
        report_issues(validation.check_feedback(self, context))
        if self.feedback_data.initial_teacher_weights is None:
            self.feedback_data.initial_teacher_weights = [
                np.array(ops.convert_to_numpy(v)) for v in teacher.variables
            ]

    def _with_teacher_outputs(self, args, rollout=None):
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
        targets = y._replace(teacher=ForwardPass(constant))
        total = super().compute_loss(x, targets, y_pred, sample_weight, training)
        batch_size = ops.shape(keras.tree.flatten(y_pred.outputs)[0])[0]
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
        y = y._replace(teacher=ForwardPass(teacher_outputs))
        step, output, _ = StepBuilder(self, x, y, y_pred, sample_weight)()
        # What they are now: a callback may change the course's.
        course = self.distillation_losses["course"]
        tau = course.temperature.hyperparameter("temperature") + 0.0
        soft, hard = course.effective_weight, self.hyperparameter("task_weight")
        return feedback_objective(
            forward,
            [ops.stop_gradient(w) for w in weights],
            (step.x, step.y, step.teacher_logits),
            exam,
            self.estimator,
            self.lookahead_learning_rate,
            tau,
            (soft + 0.0, hard + 0.0),
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

    def restore_teacher(self):
        """Makes the teacher and its optimizer what they were before the first `fit`.

        Raises:
            ValueError: This object has not trained the teacher.
        """
        initial_weights = self.feedback_data.initial_teacher_weights
        if initial_weights is None:
            raise ValueError(
                "`InteractiveDistiller.restore_teacher`: this object has not trained "
                "the teacher, so it does not know what it was before."
            )
        # `set_weights` would leave out the random states.
        variables = self.trainable_teacher.variables
        for variable, value in zip(variables, initial_weights, strict=True):
            variable.assign(value)
        self.optimizer.reset_teacher_optimizer()

    def teacher_fingerprint(self):
        """None: the teacher itself is in the file."""

    def get_config(self):
        """The Distiller's, with the teacher."""
        config = {**super().get_config(), **constructor_arguments(self, Distiller)}
        fixed = "distillation_losses", "views", "task_weight", "evaluate_distillation"
        optimizer = self.feedback_data.teacher_optimizer
        return {
            **{name: value for name, value in config.items() if name not in fixed},
            "teacher_optimizer": keras.optimizers.serialize(optimizer),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """All but the exam: `fit(..., exam=...)` follows."""
        return saved_state.from_config(cls, config, custom_objects)
