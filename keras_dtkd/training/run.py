"""Around Keras's own loops: what is known of a run, and what its end needs."""

import contextlib
import dataclasses
from typing import Any

import keras
from keras import ops

from keras_dtkd import backend
from keras_dtkd.backend.base import SessionParts
from keras_dtkd.core.hooks import FitCallback
from keras_dtkd.core.hyperparameters import layers_with_hyperparameters
from keras_dtkd.core.issue import report_issues
from keras_dtkd.training.step import TrainingTargets
from keras_dtkd.validation.labels import check_batch_labels


@dataclasses.dataclass(frozen=True)
class RunContext:
    """Of the current or latest run. Replaced as a whole, between steps."""

    is_fitting: bool = False
    is_evaluating: bool = False  # Whether the metrics are those of `evaluate`.
    train_has_labels: bool = True
    eval_has_labels: bool = True
    # `(x, y)`, what a part of the Distiller has had held out of the training data.
    held_out: Any = None

    @property
    def has_labels(self):
        """Whether the data of the current loop, training or evaluation, has labels."""
        return self.eval_has_labels if self.is_evaluating else self.train_has_labels


@contextlib.contextmanager
def fitting(distiller, callbacks):
    """A context around `fit`, whose hooks' callbacks end with it, however it ends."""
    try:
        if distiller.teacher_is_frozen:
            distiller.teacher_reference.verify_unchanged()
        context = in_context(distiller, is_fitting=True, is_evaluating=False)
        with context, session(distiller, is_training=True):
            yield
    finally:
        for callback in callbacks:
            if isinstance(callback, FitCallback):
                callback.stop()
        distiller.teacher_reference.forget_fingerprint()
        # A callback may have restored the variables of an earlier epoch.
        for layer in layers_with_hyperparameters(distiller):
            layer.pull_hyperparameters()


@contextlib.contextmanager
def in_context(distiller, **changes):
    """Replaces parts of the run's context, for as long as it is open."""
    before = distiller.run_context
    distiller.run_context = dataclasses.replace(before, **changes)
    try:
        yield
    finally:
        run = distiller.run_context
        distiller.run_context = dataclasses.replace(
            before,
            train_has_labels=run.train_has_labels,
            eval_has_labels=run.eval_has_labels,
        )


def session(distiller, is_training=False):
    """A context around a run of Keras's, on the backend's terms."""
    parts = SessionParts(
        variables=lambda: distiller.variables,
        trainable_variables=lambda: distiller.trainable_variables,
        metrics_variables=lambda: distiller.metrics_variables,
        optimizer=distiller.optimizer if distiller.compiled else None,
        strategy=strategy_of(distiller),
        sync_variables=getattr(distiller, "jax_state_sync", lambda: None),
        is_training=is_training,
    )
    return distiller.backend_session.open(parts)


def cache_global_means(distiller, outputs):
    """`compute_global_means`, once: the same weights have the same means.

    Several processes exchange them.
    """
    known: list = []

    def compute(means):
        if not known:
            known.append(compute_global_means(distiller, outputs, means))
        return known[0]

    return compute


def compute_global_means(distiller, outputs, means):
    """From this device's means over its samples to those over the samples of all.

    `outputs` has a row for each of these samples. In an evaluation, of which processes
    may have unequal numbers of batches, the means stay this device's.
    """
    if distiller.run_context.is_evaluating:
        return means
    batch_size = ops.shape(keras.tree.flatten(outputs)[0])[0]
    return backend.all_reduce_mean(distiller.backend_session, means, batch_size)


def strategy_of(model):
    """The `tf.distribute.Strategy` of a model under TensorFlow, else `None`."""
    return getattr(model, "distribute_strategy", None)


def synchronize_processes(distiller, **must_agree):
    """All processes start with rank 0's state, once.

    Raises `ValueError` if they disagree in a number of `must_agree`, unless it is
    `None` in one.
    """
    if backend.rank_and_world_size()[1] == 1:
        # `train_on_batch` comes here each time: no walk over all variables.
        return
    variables = [*distiller.variables, *distiller.optimizer.variables]
    distiller.backend_session.synchronize_start(variables, must_agree)


def wrap_step(distiller, function, loop=None):
    """Keras's step function, with the teacher's variables beside the data if needed.

    `loop` is `"train"`, `"eval"`, or `None` where the data has no labels.
    """
    uses_teacher = {
        "train": distiller.teacher_is_frozen,
        "eval": distiller.evaluate_distillation,
    }.get(loop, False)
    if loop == "train":
        # TensorFlow traces a step again whose first trace made variables.
        distiller.optimizer.build(distiller.trainable_variables)

    def state_variables():
        """Keras's own state of a step, in its order."""
        has_optimizer = distiller.compiled and distiller.optimizer
        return (
            distiller.trainable_variables,
            distiller.non_trainable_variables,
            distiller.optimizer.variables if has_optimizer else [],
            distiller.metrics_variables,
        )

    is_alone = backend.rank_and_world_size()[1] == 1

    def attach(labels, values):
        # Under JAX a label that is no class would give a loss of 0.
        ranges = distiller.preparation_cache.class_ranges.get(loop)
        if ranges and labels is not None and is_alone:
            report_issues(list(check_batch_labels(ranges, labels)))
        if not uses_teacher:
            return labels
        return TrainingTargets(labels, teacher_variables=values)

    teacher_variables = []
    if uses_teacher:
        # A frozen part that both models have is in the state.
        own = {id(variable) for variable in distiller.variables}
        teacher = distiller.teacher_reference.teacher
        teacher_variables = [None if id(v) in own else v for v in teacher.variables]
    return backend.wrap_step(
        function,
        distiller.backend_session,
        state_variables,
        teacher_variables,
        None if loop is None else attach,
    )
