"""A Distiller whose teacher learns from its student's exams."""

import types

import keras
import numpy as np
from keras import ops

from keras_dtkd.core.issue import report_issues
from keras_dtkd.losses import KD
from keras_dtkd.methods.ikd import validation
from keras_dtkd.methods.ikd.dual_optimizer import DualOptimizer
from keras_dtkd.methods.ikd.train_step import FeedbackStep
from keras_dtkd.preparation import saved_state

ARGUMENTS = (
    "temperature",
    "alpha",
    "lookahead_learning_rate",
    "estimator",
    "exam_for",
    "exam_batch_size",
)


@keras.saving.register_keras_serializable("keras_dtkd")
class InteractiveDistiller(FeedbackStep):
    """Distillation with student feedback (IKD): **the teacher changes**.

    Each step is two. The course: the student learns from the teacher's soft targets,
    `α τ² KL + (1 − α) CE`. The exam: what the student would be after one step of plain
    SGD on that loss is examined on other labelled samples, and the teacher's optimizer
    lowers the exam's cross-entropy, by changing the soft targets. Both happen in one
    compiled step of Keras's own, on the weights as they were before it.

    The teacher runs in inference mode: no dropout, and its batch statistics stay. Its
    frozen layers stay frozen, and its regularizers count nowhere: nothing but the exam
    moves it. `restore_teacher()` makes it what it was before. The exam
    should be drawn from the training data: else the comparison with another method
    is one of labels.

    Args:
        teacher: A `keras.Model` with something to train in it.
        student: A `keras.Model`.
        distillation_losses: `None`: the loss is the method's own.
        temperature: The τ of the soft targets. Positive.
        alpha: Their weight α in the course, in (0, 1]; the labels have the rest.
        lookahead_learning_rate: Learning rate η of the look-ahead step. Positive.
            The teacher's gradient is proportional to it: its optimizer should not
            depend on the scale (Adam).
        estimator: How the teacher's gradient is found. `"exact"`: a derivative of the
            student's derivative, which PyTorch cannot compile. `"jvp"`: the same
            number, in first-order form; the student's layers need a forward-mode
            derivative, and TensorFlow's XLA compiles it for minutes.
            `"finite_difference"`: the first-order form from two more passes of the
            student, to about 1e-3; works with any layers.
        exam_for: What the exam's samples are used for. `"feedback"` is the method.
            Two controls: `"teacher"`, the teacher is fine-tuned on their labels and
            nobody looks at the student; `"student"`, the student learns their labels
            beside its course and the teacher stays.
        teacher_optimizer: For the teacher. `Adam(3e-4)` by default.
        exam_batch_size: How many samples of the exam are drawn for each step. All
            of them by default.
        from_logits: As the `Distiller`'s.
        output: As the `Distiller`'s.

    Logs beside the `Distiller`'s: `exam_loss`, after the look-ahead, of the feedback;
    of the controls that of the model which learns from it. `course` is the divergence
    τ² KL without its weight α, and `loss` the course's alone, `α course + (1 − α)
    task_loss` and the student's regularizers: the exam moves weights and is not in it.

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
        if teacher_optimizer is None:
            teacher_optimizer = keras.optimizers.Adam(3e-4)
        # Keras neither tracks nor saves what is in it; the optimizer it would save
        # twice. The teacher's weights are those before it was trained.
        self.feedback_data = types.SimpleNamespace(
            exam=None,
            initial_teacher_weights=None,
            teacher_optimizer=keras.optimizers.get(teacher_optimizer),
        )
        # Tracked, unlike a Distiller's: it trains and is saved.
        self.trainable_teacher = teacher
        self.batch_seed_generator = keras.random.SeedGenerator(name="draws")

    @property
    def losses(self):
        """The student's alone: Keras would add those of the teacher, tracked here."""
        return [ops.cast(loss, "float32") for loss in self.student.losses]

    def _set_teacher(self, value):
        if value is not getattr(self, "trainable_teacher", value):
            raise ValueError(
                "`InteractiveDistiller`: its teacher is trained and saved with it, and "
                "cannot be exchanged. Make another `InteractiveDistiller`."
            )
        super()._set_teacher(value)

    def compile(self, optimizer="rmsprop", *args, **kwargs):
        """As `keras.Model.compile`; the optimizer is the student's."""
        validation.reject_teacher_optimizer_in_compile(kwargs)
        if not isinstance(optimizer, DualOptimizer):
            for_teacher = self.exam_for != "student"
            optimizer = DualOptimizer(
                optimizer, self.feedback_data.teacher_optimizer if for_teacher else None
            )
        super().compile(optimizer, *args, **kwargs)
        optimizer.num_teacher_variables = len(
            self.trainable_teacher.trainable_variables
        )

    def fit(self, x=None, y=None, *args, exam=None, **kwargs):
        """As `Distiller.fit`.

        Args:
            x: The course's inputs, as `keras.Model.fit` takes them.
            y: Their labels. Without any, the student learns from the teacher alone.
            *args: As `keras.Model.fit`.
            exam: `(x, y)`, arrays: the samples that the exam is held on. May be left
                out if a call before gave it.
            **kwargs: As `keras.Model.fit`.
        """
        if exam is not None:
            self.set_exam(*validation.validate_pair(exam))
        return super().fit(x, y, *args, **kwargs)

    def set_exam(self, x, y=None):
        """Sets the samples that the exam is held on; for `train_on_batch`.

        Args:
            x: Inputs, arrays as the student takes them.
            y: Their labels, integers or one number a class; of several outputs, those
                of the distilled one or of all of them.

        Raises:
            ValueError: No labels, not one a sample, or fewer than `exam_batch_size`.
        """
        validation.validate_feedback_data(x, y, self.exam_batch_size)
        y = validation.feedback_labels(self, y)
        self.feedback_data.exam = keras.tree.map_structure(
            ops.convert_to_tensor, (x, y)
        )
        self.train_function = None
        # `train_on_batch` has not validated this exam yet.
        self.preparation_cache.clear()

    def train_step(self, *args):
        """Keras's own step; the teacher runs inside of it."""
        if self.feedback_data.exam is None:
            report_issues([validation.no_exam()])
        return super().train_step(*args)

    def validate_before_training(self, context):
        """Validates the exam, and keeps the teacher's weights the first time."""
        if not self.optimizer.built:
            # It may have been built, or thawed, since it was compiled.
            self.optimizer.num_teacher_variables = len(
                self.trainable_teacher.trainable_variables
            )
        report_issues(validation.check_feedback(self, context))
        if self.feedback_data.initial_teacher_weights is None:
            self.feedback_data.initial_teacher_weights = [
                np.array(ops.convert_to_numpy(v.value))
                for v in self.trainable_teacher.variables
            ]

    def restore_teacher(self):
        """Makes the teacher what it was before this object first trained it.

        Its optimizer forgets what it has gathered, too.

        Raises:
            ValueError: It has not trained it.
        """
        if self.feedback_data.initial_teacher_weights is None:
            raise ValueError(
                "`InteractiveDistiller.restore_teacher`: this object has not trained "
                "the teacher, so it does not know what it was before."
            )
        for variable, value in zip(
            self.trainable_teacher.variables,
            self.feedback_data.initial_teacher_weights,
            strict=True,
        ):
            variable.assign(value)
        self.optimizer.reset_teacher_optimizer()

    def teacher_fingerprint(self):
        """None: the teacher itself is in the file."""

    def get_config(self):
        """The Distiller's, with the teacher."""
        config = super().get_config()
        for name in (
            "distillation_losses",
            "views",
            "task_weight",
            "evaluate_distillation",
        ):
            del config[name]
        return {
            **config,
            "teacher": keras.saving.serialize_keras_object(self.trainable_teacher),
            **{name: getattr(self, name) for name in ARGUMENTS},
            "teacher_optimizer": keras.optimizers.serialize(
                self.feedback_data.teacher_optimizer
            ),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """All but the exam: `fit(..., exam=...)` follows."""
        return saved_state.from_config(cls, config, custom_objects)
