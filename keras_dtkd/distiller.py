"""A Keras model that trains a student to match a teacher."""

import functools
from typing import Any

import keras
from keras import ops

from keras_dtkd import backend
from keras_dtkd.core.arguments import check_choice, name_arguments
from keras_dtkd.core.hyperparameters import Hyperparameter, HyperparameterMixin
from keras_dtkd.distribution import rank_callbacks
from keras_dtkd.losses.resolve import NamedLosses, resolve_losses
from keras_dtkd.preparation import changes, default_compile, prepare, saved_state
from keras_dtkd.preparation.output_spec import OutputSpecs
from keras_dtkd.teachers.reference import TeacherReference
from keras_dtkd.training import chunked_step, forward, loss_logging, run, task_loss
from keras_dtkd.training import model_passes as passes
from keras_dtkd.training.epoch_hooks import order_callbacks
from keras_dtkd.training.loss_aggregation import sum_losses
from keras_dtkd.training.rollout_step import student_inputs
from keras_dtkd.training.step import ForwardPass, TrainingInputs
from keras_dtkd.validation import arguments as validation
from keras_dtkd.views.resolve import resolve_views


@keras.saving.register_keras_serializable("keras_dtkd")
class Distiller(HyperparameterMixin, keras.Model):
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
        task_weight: Factor of the loss on the labels, not below 0. May change in `fit`.
        from_logits: `True` if the models give logits, `False` if probabilities,
            `"auto"` to find out for each. Probabilities are converted to logits.
        output: Name or index of the output to distil, for models with several.
        views: What losses that name a view are given: a `keras_dtkd.views.View`, a
            list, or a dict of names. Each in use costs a further pass: see `View`.
        teacher_inputs: The teacher's inputs, if not the student's: a Keras layer or a
            function of them, or the name of a column, see `datasets.with_columns`.
        rollout: A `keras_dtkd.rollouts.Rollout`, for language models.
        chunk_size: Tokens at a time, for vocabularies too large for all logits.
        evaluate_distillation: Whether `evaluate` (and so validation) reports the
            distillation losses too, which costs a pass of the teacher.
        torch_compile: PyTorch only, ignored elsewhere. Whether both models' forward
            passes are compiled in training: `True`, `False`, or `"auto"`, each once its
            passes have taken a minute, and in no run with `callbacks.Resume` or
            deterministic algorithms, since rounding and random numbers change. It takes
            up to a minute; with recurrent layers or random changes of images, which
            `True` alone compiles, minutes. What it cannot compile runs as before, and a
            line states why; so do a smaller last batch and all shapes after four.
            Python code of a layer does not run in each step: a number that it changes
            or draws stays. A layer's public settings may change before an epoch; among
            calls of `train_on_batch` set `torch_compile` again. A loss of your own that
            differentiates the student itself needs `False`.

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
    # Of subclasses: further means in the logs; whether the teacher is not trained.
    additional_logs: tuple = ()
    teacher_is_frozen = True
    train_function: Any
    predict_function: Any

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
        teacher_inputs=None,
        rollout=None,
        chunk_size=None,
        evaluate_distillation=False,
        torch_compile="auto",
        name="distiller",
        **kwargs,
    ):
        validation.validate_arguments(student, kwargs)
        # The student's policy decides about loss scaling. Inputs stay as they are:
        # each model casts its own.
        kwargs.setdefault("dtype", student.dtype_policy)
        super().__init__(name=name, autocast=False, **kwargs)
        # No Keras objects: Keras neither tracks nor saves them.
        self.teacher_reference = TeacherReference()
        self.output_specs = OutputSpecs()
        self.compile_origin = default_compile.CompileOrigin()
        self.run_context = run.RunContext()
        self.backend_session = backend.new_session()
        self.preparation_cache = prepare.Cache()
        self.student = student
        self.losses_by_name = resolve_losses(distillation_losses)
        self.has_default_losses = distillation_losses is None
        self.views = resolve_views(views)
        self.teacher_inputs = teacher_inputs
        self.rollout, self.chunk_size = validation.check_language(rollout, chunk_size)
        self.task_weight = task_weight
        self.from_logits = from_logits
        self.distilled_output = output
        self.evaluate_distillation = evaluate_distillation
        self.model_passes = passes.ModelPasses()
        self.torch_compile = torch_compile
        self.loss_trackers: dict = {}
        changes.follow_losses(self)
        if teacher is not None:
            self._set_teacher(teacher)
        self.built = student.built

    # The teacher.

    @property
    def teacher(self):
        """The teacher, as it was given. Set it again after loading."""
        return self.teacher_reference.given

    def __setattr__(self, name, value):
        # Keras tracks (and torch registers) a model before any property setter runs.
        if name == "teacher":
            return self._set_teacher(value)
        if name in changes.PARTS and hasattr(self, name):
            return changes.replace_part(self, name, value)
        if type(self) is Distiller and isinstance(value, int | float):
            changes.reject_misplaced_number(self, name, value)
        if name in ("from_logits", "torch_compile"):
            check_choice("Distiller", name, value, (True, False, "auto"))
        if name == "from_logits" and value != getattr(self, name, value):
            changes.forget_preparation(self)
        if name == "evaluate_distillation" and value != getattr(self, name, value):
            # The compiled function runs the teacher, or does not.
            self.test_function = None
        if name == "torch_compile":
            self.train_function = None
        return super().__setattr__(name, value)

    def _set_teacher(self, value):
        changes.replace_teacher(self, value)

    def teacher_fingerprint(self):
        """The fingerprint of the teacher, or of the one that a loaded file expects."""
        return self.teacher_reference.fingerprint(self.run_context.is_fitting)

    def __dir__(self):
        # Saving walks over all attributes: it would put the teacher into the file.
        return [name for name in super().__dir__() if name != "teacher"]

    @property
    def distillation_losses(self):
        """The losses, by name or place. Give others, and the next run follows."""
        return NamedLosses(self.losses_by_name)

    # The student.

    @property
    def output_names(self):
        """The student's, so that losses and metrics may be given by name."""
        return self.student.output_names

    def build(self, input_shape):
        """Builds the student."""
        if not self.student.built:
            self.student.build(input_shape)
        self.built = True

    def call(self, inputs, training=None):
        """The student's outputs; in a training step, a `ForwardPass`."""
        if not isinstance(inputs, TrainingInputs):
            return self.student(student_inputs(self, inputs), training=training)
        return passes.student_forward(self, inputs, training)

    @property
    def losses(self):
        """Regularizers and what layers add to the loss, float32 as all losses are."""
        return [ops.cast(loss, "float32") for loss in super().losses]

    # The step.

    def train_step(self, *args):
        """Keras's own step, after the teacher's forward pass."""
        backend.zero_grad(self.trainable_variables)
        return super().train_step(*self._with_teacher_outputs(args, self.rollout))

    def test_step(self, *args):
        """Keras's own step; the teacher runs with `evaluate_distillation` alone."""
        if self.evaluate_distillation:
            return super().test_step(*self._with_teacher_outputs(args))
        return super().test_step(*args)

    def _with_teacher_outputs(self, args, rollout=None):
        """The arguments of a step, with `TrainingInputs` and `TrainingTargets`."""
        *state, batch = args
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        batch, state = backend.run_with_state(
            lambda: forward.prepare_step(self, x, y, sample_weight, rollout),
            self.trainable_variables,
            self.non_trainable_variables,
            state,
        )
        return *state, batch

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        """The total: task, regularizers, and each distillation loss.

        Without the teacher (in `evaluate`) it is the student's own loss.
        """
        labels = task_loss.get_labels(y)
        if not isinstance(y_pred, ForwardPass):
            if labels is None or not self.has_task_loss:
                return ops.zeros(())
            args = x, labels, y_pred, sample_weight, training
            return task_loss.compute_regularized(self, super().compute_loss, *args)
        batch_size = ops.shape(keras.tree.flatten(y_pred.outputs)[0])[0]
        count = ops.cast(batch_size, "float32")
        log = functools.partial(loss_logging.update, self.loss_trackers, count)
        if self.chunk_size is not None:
            return chunked_step.compute_loss(self, x, y, y_pred, sample_weight, log)
        # Before any view: a forward pass on one forgets what layers added on the batch.
        regularizers, task = task_loss.sum_losses(self.losses), None
        if labels is not None and self.has_task_loss:
            args = x.x, labels, y_pred.outputs, sample_weight, training
            task = self.compute_task_loss(*args)
            log("task_loss", task)
            if task_loss.is_own(self.student):
                regularizers = task_loss.own_regularizers(self)
        steps = forward.StepBuilder(self, x, y, y_pred, sample_weight, training)
        total = sum_losses(self.distillation_losses, steps, log) + regularizers
        loss_logging.update_rollout(self, y)
        if task is not None:
            total = total + self.hyperparameter("task_weight") * task
        if not training:
            return total
        session = self.backend_session
        return backend.weight_loss_by_batch_share(session, total, batch_size)

    @property
    def has_task_loss(self):
        """Whether labels teach: by a compiled loss, or the student's own."""
        return self.loss is not None or task_loss.is_own(self.student)

    def compute_task_loss(self, x, y, outputs, sample_weight=None, training=True):
        """The loss on the labels alone, float32: see `training.task_loss`."""
        args = x, y, outputs, sample_weight, training
        return task_loss.compute(self, super().compute_loss, *args)

    def compute_losses(self, x, y=None):
        """The distillation losses of a batch `x`, and its labels `y` if there are any.

        Returns:
            A dict: the mean of each loss, by name, without its weight.
        """
        return prepare.compute_losses(self, x, y)

    # Metrics.

    def temperature_log_names(self, loss_name):
        """The names under which a loss's temperatures are logged."""
        return loss_logging.temperature_log_names(self.distillation_losses, loss_name)

    @property
    def metrics(self):
        """Keras's own, and those of a student that computes its own."""
        metrics = [*super().metrics, *task_loss.own_metrics(self.student)]
        return list({id(metric): metric for metric in metrics}.values())

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """The student's metrics, where there are labels."""
        labels = task_loss.get_labels(y)
        if isinstance(y_pred, ForwardPass):
            x, y_pred = x.x, y_pred.outputs
            labels = labels if self.chunk_size is None else None
        with self.backend_session.step_metrics():
            if labels is None:
                return self.get_metrics_result()
            logs = task_loss.compute_own_metrics(
                self.student, student_inputs(self, x), labels, y_pred, sample_weight
            )
            y_pred = self.output_specs.select_labelled(y_pred)
            return logs | super().compute_metrics(x, labels, y_pred, sample_weight)

    def get_metrics_result(self):
        """The metrics that were updated: see the class's page for their names."""
        return loss_logging.compute_results(self, self.run_context.has_labels)

    # Runs: Keras's own, after a preparation.

    def compile(self, *args, **kwargs):
        """As `keras.Model.compile`. From now on it is the user's.

        Raises:
            ValueError: A metric that compares two models: it would be given labels.
        """
        validation.reject_migrated_arguments("Distiller.compile", kwargs)
        given = name_arguments(super().compile, 0, args, kwargs)
        origin = default_compile.CompileOrigin(arguments=given)
        validation.validate_metrics(origin.metrics)
        super().compile(*args, **kwargs)
        self.compile_origin = origin
        # The kind of an output may follow from the compiled loss.
        self.preparation_cache.clear()

    def make_train_function(self, force=False):
        """Keras's own, with the teacher's variables beside the data where needed."""
        if self.train_function is None or force:
            super().make_train_function(force)
            self.model_passes.compile(self)
            self.train_function = run.wrap_step(self, self.train_function, "train")

    def make_test_function(self, force=False):
        """Keras's own, with the teacher's variables beside the data where needed."""
        if self.test_function is None or force:
            super().make_test_function(force)
            self.test_function = run.wrap_step(self, self.test_function, "eval")

    def make_predict_function(self, force=False):
        """Keras's own, protected against interrupts."""
        if self.predict_function is None or force:
            super().make_predict_function(force)
            self.predict_function = run.wrap_step(self, self.predict_function)

    def validate_before_training(self, context):
        """Called with the `ValidationContext`, before the first step. No-op."""

    def fit(
        self,
        x=None,
        y=None,
        batch_size=None,
        epochs=1,
        verbose="auto",
        callbacks=None,
        *args,
        **kwargs,
    ):
        """Trains the student. Arguments and result are those of `keras.Model.fit`.

        Without labels (`fit(x)`), it learns from the teacher alone.

        Raises:
            ValueError: Whatever is wrong with models or data, before the first step.
        """
        kwargs = name_arguments(super().fit, 6, args, kwargs)
        callbacks, verbose = rank_callbacks.rank_zero_callbacks(callbacks, verbose)
        validation.validate_monitors(callbacks)
        x, y, hooks = prepare.prepare_fit(self, x, y, batch_size, kwargs)
        self.model_passes.follow_callbacks(self, callbacks)
        callbacks = order_callbacks(self, hooks, callbacks)
        with run.fitting(self, hooks):
            return super().fit(x, y, batch_size, epochs, verbose, callbacks, **kwargs)

    def evaluate(self, x=None, y=None, *args, **kwargs):
        """The student's loss and metrics, as `keras.Model.evaluate` gives them.

        With `evaluate_distillation=True`, those of `fit`.
        """
        kwargs = name_arguments(super().evaluate, 2, args, kwargs)
        with run.in_context(self, is_evaluating=True):
            if kwargs.get("_use_cached_eval_dataset"):
                # Called by `fit`, in its session, with validation data it prepared.
                return super().evaluate(x, y, **kwargs)
            x, y = prepare.prepare_evaluate(self, x, y, kwargs)
            with run.session(self):
                return super().evaluate(x, y, **kwargs)

    def predict(self, x, *args, **kwargs):
        """The student's outputs, as `keras.Model.predict` gives them."""
        x = prepare.prepare_predict(self, x)
        with run.session(self):
            if task_loss.overrides(self.student, "predict_step"):
                # As a detector's, which decodes boxes.
                return self.student.predict(student_inputs(self, x), *args, **kwargs)
            return super().predict(x, *args, **kwargs)

    def train_on_batch(self, x, y=None, *args, **kwargs):
        """One step, as `keras.Model.train_on_batch`.

        There are no epochs here: call `loss.on_epoch_begin(epoch, epochs)` for a loss
        with a warm-up. Until then its weight is full.
        """
        kwargs = name_arguments(super().train_on_batch, 2, args, kwargs)
        x, y = prepare.prepare_batch(self, "train_on_batch", x, y, kwargs)
        with run.session(self, is_training=True):
            run.synchronize_processes(self)
            return super().train_on_batch(x, y, **kwargs)

    def test_on_batch(self, x, y=None, *args, **kwargs):
        """The student's loss and metrics on one batch."""
        kwargs = name_arguments(super().test_on_batch, 2, args, kwargs)
        x, y = prepare.prepare_batch(self, "test_on_batch", x, y, kwargs)
        with run.in_context(self, is_evaluating=True), run.session(self):
            return super().test_on_batch(x, y, **kwargs)

    def export(self, *args, **kwargs):
        """Exports the student, as `distiller.student.export` does."""
        return self.student.export(*args, **kwargs)

    def quantize(self, *args, **kwargs):
        """Quantizes the student, as `distiller.student.quantize`; losses stay."""
        return self.student.quantize(*args, **kwargs)

    # Files: everything but the teacher.

    def save(self, *args, **kwargs):
        """As `keras.Model.save`; one process of several may do it alone."""
        with backend.single_process_scope():
            return super().save(*args, **kwargs)

    def save_weights(self, *args, **kwargs):
        """As `keras.Model.save_weights`; one process of several may do it alone."""
        with backend.single_process_scope():
            return super().save_weights(*args, **kwargs)

    def load_weights(self, *args, **kwargs):
        """Reads a file; one that is refused leaves everything as it was."""
        with saved_state.restored_on_error(self):
            super().load_weights(*args, **kwargs)

    def save_own_variables(self, store):
        """Its own numbers, random states, and the fingerprint of the teacher."""
        super().save_own_variables(store)
        saved_state.write_state(self, store)

    def load_own_variables(self, store):
        """Reads them; refuses the state of a run with another teacher."""
        super().load_own_variables(saved_state.read_state(self, store))

    def get_config(self):
        """All but the teacher, of which there is the fingerprint."""
        # Not that of the mixin: the teacher is no part of it.
        return saved_state.get_config(self, keras.Model.get_config(self))

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """A Distiller without its teacher: `distiller.teacher = teacher` follows."""
        build = functools.partial(cls, None)
        return saved_state.from_config(build, config, custom_objects)

    def get_compile_config(self):
        """Keras's own, and where it comes from."""
        config = super().get_compile_config()
        return saved_state.add_compile_origin(self, config)

    def compile_from_config(self, config):
        """Compiles again; takes over from the student again."""
        saved_state.compile_again(self, config)
