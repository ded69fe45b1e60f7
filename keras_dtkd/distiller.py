"""A Keras model that trains a student to match a teacher."""

import contextlib
import dataclasses
import inspect
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_dtkd import backend
from keras_dtkd.backend.base import SessionParts
from keras_dtkd.core import arrays, logits
from keras_dtkd.core.hooks import FitCallback
from keras_dtkd.core.hyperparameters import (
    Hyperparameter,
    HyperparameterMixin,
    layers_with_hyperparameters,
)
from keras_dtkd.core.issue import report_issues
from keras_dtkd.core.masking import MaskPreserving
from keras_dtkd.distribution import rank_callbacks
from keras_dtkd.losses.reduction import undo_replica_scaling
from keras_dtkd.losses.resolve import input_gradient_losses, resolve_losses
from keras_dtkd.preparation import default_compile, prepare
from keras_dtkd.teachers.base import ProtocolTeacher, resolve_teacher
from keras_dtkd.teachers.fingerprint import read_fingerprint, write_fingerprint
from keras_dtkd.teachers.model_teacher import ModelTeacher
from keras_dtkd.teachers.reference import TeacherReference
from keras_dtkd.teachers.sample_ids import model_inputs
from keras_dtkd.training import forward, input_gradients, loss_logging
from keras_dtkd.training.epoch_hooks import EpochHooks
from keras_dtkd.training.loss_aggregation import compute_loss_means, sum_losses
from keras_dtkd.training.run_context import RunContext
from keras_dtkd.training.step import (
    ForwardPass,
    Step,
    TrainingInputs,
    TrainingTargets,
)
from keras_dtkd.validation import arguments as validation
from keras_dtkd.validation.models import check_shared_weights
from keras_dtkd.views.resolve import resolve_views, validate_views

_to_logits = MaskPreserving(logits.to_logits)


def _attach_teacher_variables(labels, values):
    return TrainingTargets(labels, teacher_variables=values)


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
        task_weight: Factor of the loss on the labels. Not negative. May be changed
            while training runs.
        from_logits: `True` if the models give logits, `False` if probabilities,
            `"auto"` to find out for each. Probabilities are converted to logits.
        output: Name or index of the output to distil, for models with several.
        views: What the batch looks like to losses that name a view: a
            `keras_dtkd.views.View`, a list, or a dict of names. Each view in use costs
            one more pass of the student and of the teacher.
        evaluate_distillation: Whether `evaluate` (and so validation) reports the
            distillation losses too, which costs a pass of the teacher.

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
        evaluate_distillation=False,
        name="distiller",
        **kwargs,
    ):
        validation.validate_arguments(student, from_logits)
        validation.reject_foreign_arguments(kwargs)
        # The student's policy decides about loss scaling. Inputs stay as they are:
        # each model casts its own.
        kwargs.setdefault("dtype", student.dtype_policy)
        super().__init__(name=name, autocast=False, **kwargs)
        # None of these is a Keras object: Keras neither tracks nor saves them.
        self.teacher_reference = TeacherReference()
        self.student_spec = self.teacher_spec = None
        self.compile_origin = default_compile.CompileOrigin()
        self.run_context = RunContext()
        self.backend_session = backend.new_session()
        self.preparation_cache = prepare.Cache()
        self.student = student
        self.distillation_losses = resolve_losses(distillation_losses)
        self.views = resolve_views(views)
        validate_views(self.distillation_losses, self.views)
        self.task_weight = task_weight
        self.from_logits = from_logits
        self.distilled_output = output
        self.evaluate_distillation = evaluate_distillation
        self.loss_trackers = loss_logging.build_trackers(
            self.distillation_losses, self.additional_logs
        )
        gradient_losses = input_gradient_losses(self.distillation_losses)
        if any(o.input_gradient != "exact" for o in gradient_losses.values()):
            self.direction_seed_generator = keras.random.SeedGenerator()
        if teacher is not None:
            self._set_teacher(teacher)
        self.built = student.built

    # The teacher.

    @property
    def teacher(self):
        """The teacher, as it was given. Set it again after loading."""
        teacher = self.teacher_reference.teacher
        if isinstance(teacher, ModelTeacher):
            return teacher.model
        return teacher.wrapped if isinstance(teacher, ProtocolTeacher) else teacher

    def __setattr__(self, name, value):
        # Keras tracks (and torch registers) a model before any property setter runs.
        if name == "teacher":
            self._set_teacher(value)
            return
        if name == "evaluate_distillation" and value != getattr(self, name, value):
            # The compiled function runs the teacher, or does not.
            self.test_function = None
        super().__setattr__(name, value)

    def _set_teacher(self, value):
        teacher = resolve_teacher(value)
        report_issues(check_shared_weights(teacher, self.student))
        self.teacher_reference.set(teacher)
        # A copy of the teacher's random state, which advances in its place.
        self.teacher_seeds = [
            keras.random.SeedGenerator(0) for _ in teacher.seed_variables
        ]
        states = self.teacher_reference.expected_seeds or [
            variable.value for variable in teacher.seed_variables
        ]
        for seed, state in zip(self.teacher_seeds, states, strict=True):
            # A copy: under JAX a step consumes the arrays of its state.
            seed.state.assign(np.array(ops.convert_to_numpy(state)))
        self.teacher_reference.expected_seeds = None
        self.preparation_cache.clear()
        # The compiled functions run another teacher.
        self.train_function = None
        self.test_function = None

    def _resolved_teacher(self) -> Any:
        return self.teacher_reference.teacher

    def teacher_fingerprint(self):
        """The fingerprint of the teacher, or of the one that a loaded file expects."""
        # Between runs the teacher may change.
        return self.teacher_reference.fingerprint(self.run_context.is_fitting)

    def __dir__(self):
        # Saving walks over all attributes: it would put the teacher into the file.
        return [name for name in super().__dir__() if name != "teacher"]

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
            return self.student(model_inputs(inputs), training=training)
        layers = forward.captured_layers(self.distillation_losses, "student")
        x = model_inputs(inputs.x)
        if inputs.gradient_targets is None:
            return forward.student_forward(self.student, x, layers, training)
        losses = input_gradient_losses(self.distillation_losses)
        return input_gradients.student_forward_with_gradient(
            self.student,
            x,
            next(iter(losses.values())),
            self._student_logits,
            inputs.gradient_targets,
            inputs.direction,
            layers,
            training,
            self.compute_dtype,
            self.add_loss,
        )

    @property
    def losses(self):
        """Regularizers and what layers add to the loss, float32 as all losses are."""
        return [ops.cast(loss, "float32") for loss in super().losses]

    @property
    def student_shapes(self):
        """Shapes of the student's outputs by name, or `None` before they are known."""
        return None if self.student_spec is None else self.student_spec.shapes

    @property
    def output_kinds(self):
        """The kinds of the distilled outputs, student's and teacher's."""
        specs = self.student_spec, self.teacher_spec
        return tuple(logits.LOGITS if s is None else s.output_kind for s in specs)

    # The step.

    def train_step(self, *args):
        """Keras's own step, after the teacher's forward pass."""
        backend.zero_grad(self.trainable_variables)
        return super().train_step(*self._with_teacher_outputs(*args))

    def test_step(self, *args):
        """Keras's own step; the teacher runs with `evaluate_distillation` alone."""
        if self.evaluate_distillation:
            return super().test_step(*self._with_teacher_outputs(*args))
        return super().test_step(*args)

    def _with_teacher_outputs(self, *args):
        """The arguments of a step, with `TrainingInputs` and `TrainingTargets`."""
        *state, batch = args
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        (inputs, targets), state = backend.run_with_state(
            lambda: self._teacher_targets(x, y), self.non_trainable_variables, state
        )
        return *state, (inputs, targets, sample_weight)

    def _teacher_targets(self, x, y):
        teacher = self.teacher_reference.teacher
        targets = y if isinstance(y, TrainingTargets) else TrainingTargets(y)
        targets = targets._replace(labels=arrays.drop_placeholder(targets.labels))
        losses = input_gradient_losses(self.distillation_losses)
        layers = forward.captured_layers(self.distillation_losses, "teacher")
        values = targets.teacher_variables
        direction = gradient_targets = None
        if losses:
            if next(iter(losses.values())).input_gradient != "exact":
                direction = input_gradients.sample_direction(
                    model_inputs(x), self.direction_seed_generator
                )
            result, gradient_targets = input_gradients.teacher_forward_with_gradient(
                teacher,
                x,
                self._distilled_labels(targets.labels),
                losses,
                self.teacher_logits,
                direction,
                layers,
                values,
                self.teacher_seeds,
            )
        else:
            result = forward.teacher_forward(
                teacher, x, layers, values, self.teacher_seeds
            )
        targets = targets._replace(
            teacher_outputs=result.outputs,
            teacher_features=result.features,
            teacher_input_gradient=result.input_gradient,
        )
        return TrainingInputs(x, gradient_targets, direction), targets

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        """The total: task, regularizers, and each distillation loss.

        Without the teacher (in `evaluate`) it is the student's own loss.
        """
        if not isinstance(y_pred, ForwardPass):
            y = arrays.drop_placeholder(
                y.labels if isinstance(y, TrainingTargets) else y
            )
            if y is None or self.loss is None:
                return ops.zeros(())
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        batch_size = ops.shape(keras.tree.flatten(x)[0])[0]

        def log(name, value):
            # Weighted as Keras weights `loss`: a short last batch counts less.
            value = undo_replica_scaling(value)
            self.loss_trackers[name].update_state(value, sample_weight=batch_size)

        total = sum_losses(
            self.distillation_losses,
            self._steps(x, y, y_pred, sample_weight, training),
            self.temperature_log_names,
            log,
        )
        if y.labels is not None and self.loss is not None:
            task = self.compute_task_loss(
                x.x, y.labels, y_pred.outputs, sample_weight, training
            )
            log("task_loss", task)
            total = total + self.hyperparameter("task_weight") * task
        total = total + self._regularization()
        if not training:
            return total
        return backend.weight_loss_by_batch_share(
            self.backend_session, total, batch_size
        )

    def compute_task_loss(self, x, y, outputs, sample_weight=None, training=True):
        """The compiled loss on the labels alone, without regularizers, float32."""
        task = super().compute_loss(x, y, outputs, sample_weight, training)
        task = ops.cast(task, "float32")
        # Keras adds them; they count once, and not by the task's weight.
        return task - self._regularization() if self.losses else task

    def _regularization(self):
        """The sum of regularizers and of what layers add to the loss."""
        losses = [ops.sum(ops.cast(loss, "float32")) for loss in self.losses]
        return sum(losses, ops.zeros((), dtype="float32")) / backend.replicas()

    def _steps(self, x, y, y_pred, sample_weight, training):
        """From the name of a view, or `None`, to the `Step` on it and the output."""
        teacher = ForwardPass(
            y.teacher_outputs, y.teacher_features, y.teacher_input_gradient
        )
        steps = {
            None: self._build_step(
                model_inputs(x.x), y.labels, sample_weight, y_pred, teacher, training
            )
        }

        def step_of_view(view):
            if view not in steps:
                steps[view] = self._step_on_view(view, x, y, sample_weight, training)
            return steps[view]

        return step_of_view

    def _step_on_view(self, view, x, y, sample_weight, training):
        """The step of both models on a view of the batch, which has no labels."""
        x = self.views[view](model_inputs(x.x))
        result = forward.teacher_forward(
            self.teacher_reference.teacher,
            x,
            forward.captured_layers(self.distillation_losses, "teacher"),
            y.teacher_variables,
            self.teacher_seeds,
        )
        # Unlike on the batch itself, a gradient is being recorded here.
        result = forward.stop_gradient(result)
        y_pred = self(TrainingInputs(x), training=training)
        return self._build_step(x, None, sample_weight, y_pred, result, training)

    def _build_step(self, x, labels, sample_weight, student, teacher, training):
        step = Step(
            x=x,
            y=self._select_output(labels, student.outputs),
            sample_weight=self._select_output(sample_weight, student.outputs),
            student_outputs=student.outputs,
            teacher_outputs=teacher.outputs,
            student_logits=self._student_logits(student.outputs),
            teacher_logits=self.teacher_logits(teacher.outputs),
            student_features=student.features,
            teacher_features=teacher.features,
            student_input_gradient=student.input_gradient,
            teacher_input_gradient=teacher.input_gradient,
            student=self.student,
            teacher=self.teacher_reference.teacher,
            training=training,
        )
        return step, self._student_output(student.outputs)

    def _student_output(self, outputs):
        names = getattr(self.student, "output_names", None)
        return logits.select_output(outputs, self.distilled_output, names)

    def _student_logits(self, outputs):
        output = self._student_output(outputs)
        return _to_logits(output, output_kind=self.output_kinds[0])

    def teacher_logits(self, outputs):
        """The logits of the distilled output, from the teacher's outputs."""
        names = self._resolved_teacher().output_names
        output = logits.select_output(outputs, self.distilled_output, names)
        return logits.to_logits(output, self.output_kinds[1])

    def _select_output(self, value, outputs):
        """The labels or weights of the distilled output, or `None`."""
        multiple = dict | list | tuple
        if not isinstance(outputs, multiple) or not isinstance(value, multiple):
            return value
        names = getattr(self.student, "output_names", None)
        try:
            return logits.select_output(value, self.distilled_output, names)
        except KeyError:
            return None

    def _distilled_labels(self, labels):
        names = getattr(self.student, "output_names", None)
        try:
            return logits.select_output(labels, self.distilled_output, names)
        except KeyError as error:
            raise ValueError(
                "`Distiller`: input gradients need the labels of the distilled output, "
                f"{self.distilled_output!r}. There are: {error.args[0]}."
            ) from error

    def compute_losses(self, x, y=None):
        """The distillation losses of one batch, outside of any training step.

        Args:
            x: A batch of inputs.
            y: Its labels. Optional.

        Returns:
            A dict: the mean of each loss, by name, without its weight.
        """
        if self.teacher_spec is None:
            prepare.prepare_models(self, x, y)
        steps = self.build_steps(x, y)
        means = compute_loss_means(self.distillation_losses, steps)
        return {name: mean for name, mean, _ in means}

    def build_steps(self, x, y=None):
        """The `Step`s of one batch, outside of any training step.

        Args:
            x: A batch of inputs.
            y: Its labels. Optional.

        Returns:
            A function from the name of a view, or `None`, to the `Step` on it and the
            student's distilled output.
        """
        inputs, targets = self._teacher_targets(x, y)
        y_pred = self(inputs, training=False)
        return self._steps(inputs, targets, y_pred, None, False)

    # Metrics.

    def temperature_log_names(self, loss_name):
        """The names under which a loss's temperatures are logged."""
        return loss_logging.temperature_log_names(self.distillation_losses, loss_name)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """The student's metrics, where there are labels."""
        if isinstance(y_pred, ForwardPass):
            x, y_pred = x.x, y_pred.outputs
        y = arrays.drop_placeholder(y.labels if isinstance(y, TrainingTargets) else y)
        with self.backend_session.step_metrics():
            if y is None:
                return self._metrics_result(has_labels=False)
            return super().compute_metrics(x, y, y_pred, sample_weight)

    def get_metrics_result(self):
        """The metrics that were updated: see the class's page for their names."""
        run = self.run_context
        return self._metrics_result(
            run.eval_has_labels if run.is_evaluating else run.train_has_labels
        )

    def _metrics_result(self, has_labels):
        results = {}
        is_training = not self.run_context.is_evaluating
        with self.backend_session.all_reduced_metrics(
            self.metrics_variables, is_training
        ):
            for metric in self._updated_metrics(has_labels, is_training):
                result = metric.result()
                results.update(
                    result if isinstance(result, dict) else {metric.name: result}
                )
        return results

    def _updated_metrics(self, has_labels, is_training):
        uses_teacher = self.evaluate_distillation or is_training
        has_task = has_labels and self.loss is not None
        for metric in self.metrics:
            if self.loss_trackers.get(metric.name) is metric:
                is_updated = uses_teacher and (has_task or metric.name != "task_loss")
            elif metric.name == "loss":
                is_updated = uses_teacher or has_task
            else:
                is_updated = has_labels
            # Keras makes the compiled metrics with the first labels.
            if is_updated and getattr(metric, "built", True):
                yield metric

    # Runs: Keras's own, after a preparation.

    def compile(self, *args, **kwargs):
        """As `keras.Model.compile`. From now on it is the user's.

        Raises:
            ValueError: A metric that compares two models: it would be given labels.
        """
        given = inspect.signature(super().compile).bind(*args, **kwargs).arguments
        metrics = [given.get("metrics"), given.get("weighted_metrics")]
        metrics = keras.tree.flatten(metrics)
        validation.reject_model_comparison_metrics(metrics)
        super().compile(*args, **kwargs)
        self.compile_origin = default_compile.CompileOrigin(metrics=metrics)

    def make_train_function(self, force=False):
        """Keras's own, with the teacher's variables beside the data where needed."""
        if self.train_function is None or force:
            super().make_train_function(force)
            self.train_function = self._wrap_step(
                self.train_function, self.teacher_is_frozen
            )

    def make_test_function(self, force=False):
        """Keras's own, with the teacher's variables beside the data where needed."""
        if self.test_function is None or force:
            super().make_test_function(force)
            self.test_function = self._wrap_step(
                self.test_function, self.evaluate_distillation
            )

    def make_predict_function(self, force=False):
        """Keras's own, protected against interrupts."""
        if self.predict_function is None or force:
            super().make_predict_function(force)
            self.predict_function = self._wrap_step(self.predict_function, False)

    def _wrap_step(self, function, uses_teacher):
        return backend.wrap_step(
            function,
            self.backend_session,
            self._state_variables,
            self._resolved_teacher().variables if uses_teacher else (),
            _attach_teacher_variables if uses_teacher else None,
        )

    def _state_variables(self):
        """Keras's own state of a step, in its order."""
        return (
            self.trainable_variables,
            self.non_trainable_variables,
            self.optimizer.variables if self.compiled and self.optimizer else [],
            self.metrics_variables,
        )

    @contextlib.contextmanager
    def _in_run(self, **changes):
        """Replaces parts of the run's context, for as long as it is open."""
        before = self.run_context
        self.run_context = dataclasses.replace(before, **changes)
        try:
            yield
        finally:
            keep = ("train_has_labels", "eval_has_labels")
            self.run_context = dataclasses.replace(
                before, **{name: getattr(self.run_context, name) for name in keep}
            )

    def validate_before_training(self, context):
        """Called after the validation, before the first step. No-op; for subclasses.

        Args:
            context: The `keras_dtkd.validation.context.ValidationContext`.
        """

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
        validation.reject_feedback_data(kwargs)
        validation.require_teacher(self)
        rank_callbacks.validate_divisible_batches(x, batch_size, kwargs)
        x, y, hooks = prepare.prepare_fit(self, x, y, batch_size, kwargs)
        callbacks, verbose = rank_callbacks.rank_zero_callbacks(callbacks, verbose)
        callbacks = [EpochHooks(self), *hooks, *callbacks]
        try:
            with self._in_run(is_fitting=True, is_evaluating=False):
                with self._training_session():
                    return super().fit(
                        x, y, batch_size, epochs, verbose, callbacks, *args, **kwargs
                    )
        finally:
            for hook in hooks:
                if isinstance(hook, FitCallback):
                    hook.stop()
            self.teacher_reference.forget_fingerprint()
            # A callback may have restored the variables of an earlier epoch.
            for layer in layers_with_hyperparameters(self):
                layer.pull_hyperparameters()

    def evaluate(self, x=None, y=None, *args, **kwargs):
        """The student's loss and metrics, as `keras.Model.evaluate` gives them.

        With `evaluate_distillation=True`, those of `fit`.
        """
        with self._in_run(is_evaluating=True):
            if kwargs.get("_use_cached_eval_dataset"):
                # Called by `fit`, in its session, with validation data it prepared.
                return super().evaluate(x, y, *args, **kwargs)
            if x is not None:
                x = prepare.prepare_evaluation(self, x, y)
            with self._training_session(training=False):
                return super().evaluate(x, y, *args, **kwargs)

    def predict(self, x, *args, **kwargs):
        """The student's outputs, as `keras.Model.predict` gives them."""
        with self._training_session(training=False):
            return super().predict(x, *args, **kwargs)

    def train_on_batch(self, x, y=None, *args, **kwargs):
        """One step, as `keras.Model.train_on_batch`.

        There are no epochs here: call `loss.on_epoch_begin(epoch, epochs)` for a loss
        with a warm-up. Until then its weight is full.
        """
        validation.require_teacher(self)
        prepare.prepare_batch(self, x, y)
        with self._training_session():
            self.synchronize_processes()
            return super().train_on_batch(x, y, *args, **kwargs)

    def test_on_batch(self, x, y=None, *args, **kwargs):
        """The student's loss and metrics on one batch."""
        prepare.prepare_evaluation(self, x, y, is_batch=True)
        with self._in_run(is_evaluating=True), self._training_session(training=False):
            return super().test_on_batch(x, y, *args, **kwargs)

    def _training_session(self, training=True):
        optimizer = self.optimizer if self.compiled else None
        parts = SessionParts(
            variables=self.variables,
            trainable_variables=self.trainable_variables,
            metrics_variables=self.metrics_variables,
            optimizer=optimizer,
            strategy=prepare.strategy_of(self),
            sync_variables=getattr(self, "jax_state_sync", lambda: None),
            is_training=training,
        )
        return self.backend_session.open(parts)

    def synchronize_processes(self, **must_agree):
        """All processes start with rank 0's state, once.

        Args:
            **must_agree: Numbers that must be the same everywhere; `None` if unknown.

        Raises:
            ValueError: The processes disagree in a number.
        """
        if backend.rank_and_world_size()[1] == 1:
            # `train_on_batch` comes here each time: no walk over all variables.
            return
        self.backend_session.synchronize_start(
            [*self.variables, *self.optimizer.variables], must_agree
        )

    # Files: everything but the teacher.

    def save(self, *args, **kwargs):
        """As `keras.Model.save`; one process of several may do it alone."""
        with backend.single_process_scope():
            return super().save(*args, **kwargs)

    def save_weights(self, *args, **kwargs):
        """As `keras.Model.save_weights`; one process of several may do it alone."""
        with backend.single_process_scope():
            return super().save_weights(*args, **kwargs)

    def save_own_variables(self, store):
        """Its own numbers, random states, and the fingerprint of the teacher."""
        super().save_own_variables(store)
        for i, seed in enumerate(self._seed_variables()):
            store[f"seed_{i}"] = ops.convert_to_numpy(seed.value)
        for i, seed in enumerate(self._teacher_seed_variables()):
            store[f"teacher_seed_{i}"] = ops.convert_to_numpy(seed.value)
        write_fingerprint(store, self.teacher_fingerprint())

    def _teacher_seed_variables(self):
        return [seed.state for seed in getattr(self, "teacher_seeds", ())]

    def _seed_variables(self):
        """Random states (of dropout): Keras has them, but in none of its files."""
        others = [*self.weights, *self._teacher_seed_variables()]
        ids = {id(variable) for variable in others}
        return [v for v in self.variables if id(v) not in ids]

    def load_weights(self, *args, **kwargs):
        """Reads a file; one that is refused leaves everything as it was."""
        variables = list(self.variables)
        if self.compiled:
            variables += self.optimizer.variables
        before = [np.array(ops.convert_to_numpy(v.value)) for v in variables]
        try:
            super().load_weights(*args, **kwargs)
        except ValueError:
            # Keras goes on to the student after the Distiller itself has refused.
            for variable, value in zip(variables, before, strict=True):
                variable.assign(value)
            raise

    def load_own_variables(self, store):
        """Reads them; refuses the state of a run with another teacher."""
        store, fingerprint = read_fingerprint(store)
        names = list(store.keys())
        own = [name for name in names if name.startswith("seed_")]
        teachers = [name for name in names if name.startswith("teacher_seed_")]
        self.teacher_reference.load(fingerprint, [store[name] for name in teachers])
        for i, variable in enumerate(self._seed_variables() if own else ()):
            variable.assign(store[f"seed_{i}"])
        if self.teacher_reference.teacher is not None:
            self.teacher_reference.expected_seeds = None
            for i, variable in enumerate(self._teacher_seed_variables()):
                if f"teacher_seed_{i}" in names:
                    variable.assign(store[f"teacher_seed_{i}"])
        super().load_own_variables(
            {name: store[name] for name in names if name not in {*own, *teachers}}
        )

    def get_config(self):
        """All but the teacher, of which there is the fingerprint."""
        serialize = keras.saving.serialize_keras_object
        specs = self.student_spec, self.teacher_spec
        return {
            **super().get_config(),
            "student": serialize(self.student),
            "distillation_losses": {
                name: serialize(loss) for name, loss in self.distillation_losses.items()
            },
            "views": {name: serialize(view) for name, view in self.views.items()},
            "task_weight": self.task_weight,
            "from_logits": self.from_logits,
            "output": self.distilled_output,
            "evaluate_distillation": self.evaluate_distillation,
            "teacher_fingerprint": self.teacher_fingerprint(),
            "output_specs": [None if s is None else s.to_dict() for s in specs],
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """A Distiller without its teacher: `distiller.teacher = teacher` follows."""
        config = dict(config)
        fingerprint = config.pop("teacher_fingerprint")
        specs = config.pop("output_specs")
        for key in ("student", "distillation_losses", "views"):
            config[key] = keras.saving.deserialize_keras_object(
                config[key], custom_objects
            )
        distiller = cls(None, **config)
        distiller.teacher_reference.expected_fingerprint = fingerprint
        distiller.set_output_specs(specs)
        return distiller

    def set_output_specs(self, specs):
        """Takes the output specs of a configuration, student's and teacher's."""
        make = prepare.OutputSpec.from_dict
        self.student_spec, self.teacher_spec = (
            None if spec is None else make(spec) for spec in specs
        )

    def get_compile_config(self):
        """Keras's own, and where it comes from."""
        config = super().get_compile_config()
        if not self.compiled:
            return config
        return {**config, "compile_origin": self.compile_origin.get_config()}

    def compile_from_config(self, config):
        """Compiles again; takes over from the student again."""
        config = dict(config)
        origin = config.pop("compile_origin", {})
        if origin.get("source") == "student" and self.student.compiled:
            default_compile.compile_like_student(self, config.get("loss") is not None)
        elif config:
            self.compile(**keras.saving.deserialize_keras_object(config))
        else:
            return
        self.compile_origin = default_compile.CompileOrigin(
            **origin, metrics=self.compile_origin.metrics
        )
        default_compile.exclude_from_weight_decay(self)
        if self.built:
            self.optimizer.build(self.trainable_variables)
