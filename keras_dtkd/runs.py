"""`fit`, `evaluate` and their like: Keras's own, with a look at the data first."""

import inspect
from typing import Any

import keras

from keras_dtkd import backend
from keras_dtkd.core import arrays, hyperparameters
from keras_dtkd.distribution import rank_callbacks
from keras_dtkd.held import flag
from keras_dtkd.methods.rlkd.reward_callback import build_reward_callbacks
from keras_dtkd.methods.rlkd.validation import validate_holdout
from keras_dtkd.preparation import prepare
from keras_dtkd.training.epoch_hooks import EpochHooks, with_epoch_hooks
from keras_dtkd.validation import models


class Runs(keras.Model):
    """The part of the Distiller that starts runs."""

    held: Any
    train_function: Any
    # Whether the teacher is no part of what is trained.
    teacher_stays = True
    test_function: Any
    predict_function: Any

    def before_training(self, sample):
        """Nothing. Called by what trains, after its checks, before the first step."""

    def compile(self, *args, **kwargs):
        """As `keras.Model.compile`. From now on it is the user's.

        Raises:
            ValueError: A metric that compares two models: it would be given labels.
        """
        given = inspect.signature(super().compile).bind(*args, **kwargs).arguments
        metrics = [given.get("metrics"), given.get("weighted_metrics")]
        metrics = keras.tree.flatten(metrics)
        models.reject_model_comparison_metrics(metrics)
        super().compile(*args, **kwargs)
        held = self.held
        held.metrics = metrics
        held.compiled_by_us, held.kind, held.borrowed = False, None, False

    def make_train_function(self, force=False):
        """Keras's own, with the teacher's variables beside the data where needed."""
        if self.train_function is None or force:
            super().make_train_function(force)
            self.train_function = backend.with_teacher_variables(
                self, self.train_function, teacher=self.teacher_stays
            )

    def make_test_function(self, force=False):
        """Likewise."""
        if self.test_function is None or force:
            super().make_test_function(force)
            self.test_function = backend.with_teacher_variables(
                self, self.test_function, teacher=self.evaluate_distillation
            )

    def make_predict_function(self, force=False):
        """Likewise."""
        if self.predict_function is None or force:
            super().make_predict_function(force)
            self.predict_function = backend.with_teacher_variables(
                self, self.predict_function, teacher=False
            )

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
        models.reject_feedback_data(kwargs)
        models.require_teacher(self)
        rank_callbacks.validate_divisible_batches(x, batch_size, kwargs)
        sample, x = prepare.prepare(self, x, y, kwargs, batch_size)
        if y is None and kwargs.get("sample_weight") is not None:
            y = arrays.placeholder_labels(x)
        rewards, x, y = build_reward_callbacks(self, x, y, batch_size, kwargs)
        validate_holdout(self, rewards, sample)
        callbacks, verbose = with_epoch_hooks(
            callbacks, verbose, EpochHooks(), *rewards
        )
        self.held.evaluating = False
        try:
            with backend.training_session(self), flag(self.held, "fitting"):
                return super().fit(
                    x, y, batch_size, epochs, verbose, callbacks, *args, **kwargs
                )
        finally:
            for one in rewards:
                one.stop()
            self.held.cached_fingerprint = None
            # A callback may have restored the variables of an earlier epoch.
            for part in hyperparameters.layers_with_hyperparameters(self):
                part.pull_hyperparameters()

    def evaluate(self, x=None, y=None, *args, **kwargs):
        """The student's loss and metrics, as `keras.Model.evaluate` gives them.

        With `evaluate_distillation=True`, those of `fit`.
        """
        with flag(self.held, "evaluating"):
            if kwargs.get("_use_cached_eval_dataset"):
                # Called by `fit`, in its session, with validation data it prepared.
                return super().evaluate(x, y, *args, **kwargs)
            if x is not None:
                _, x = prepare.prepare(self, x, y, {}, training=False)
            with backend.training_session(self, training=False):
                return super().evaluate(x, y, *args, **kwargs)

    def predict(self, x, *args, **kwargs):
        """The student's outputs, as `keras.Model.predict` gives them."""
        with backend.training_session(self, training=False):
            return super().predict(x, *args, **kwargs)

    def train_on_batch(self, x, y=None, *args, **kwargs):
        """One step, as `keras.Model.train_on_batch`.

        Nobody counts epochs here: call `loss.on_epoch_begin(epoch, epochs)` for a loss
        with a warm-up. Until then its weight is full.
        """
        models.require_teacher(self)
        # Looking at every batch would cost as much as the step.
        kind = arrays.batch_signature(x, y)
        if self.held.stepped != kind:
            prepare.prepare(self, x, y, {}, batch=True)
            self.held.stepped = kind
        with backend.training_session(self):
            if not self.held.begun:
                backend.synchronize_processes(self)
            return super().train_on_batch(x, y, *args, **kwargs)

    def test_on_batch(self, x, y=None, *args, **kwargs):
        """The student's loss and metrics on one batch."""
        prepare.prepare(self, x, y, {}, training=False, batch=True)
        with (
            flag(self.held, "evaluating"),
            backend.training_session(self, training=False),
        ):
            return super().test_on_batch(x, y, *args, **kwargs)
