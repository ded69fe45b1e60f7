"""What a file of a Distiller holds: everything but the teacher."""

import keras
import numpy as np

from keras_dtkd import backend
from keras_dtkd.preparation import prepare
from keras_dtkd.teachers import fingerprint


class Saved(keras.Model):
    """The part of the Distiller that is written and read."""

    def teacher_fingerprint(self):
        """The fingerprint of the teacher, or of the one that a loaded file expects."""
        if self.held.teacher is None:
            return self.held.fingerprint
        if self.held.cached_fingerprint is None:
            fingerprint = self.held.teacher.fingerprint()
            if not self.held.fitting:
                # Between runs the teacher may change.
                return fingerprint
            self.held.cached_fingerprint = fingerprint
        return self.held.cached_fingerprint

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
        for i, seed in enumerate(self._seeds()):
            store[f"seed_{i}"] = keras.ops.convert_to_numpy(seed.value)
        fingerprint.write_fingerprint(store, self.teacher_fingerprint())

    def _seeds(self):
        """Random states (of dropout): Keras has them, but in none of its files."""
        weights = {id(weight) for weight in self.weights}
        return [v for v in self.variables if id(v) not in weights]

    def load_weights(self, *args, **kwargs):
        """Reads a file; one that is refused leaves everything as it was."""
        variables = list(self.variables)
        if self.compiled:
            variables += self.optimizer.variables
        before = [np.array(keras.ops.convert_to_numpy(v.value)) for v in variables]
        try:
            super().load_weights(*args, **kwargs)
        except ValueError:
            # Keras goes on to the student after the Distiller itself has refused.
            for variable, value in zip(variables, before, strict=True):
                variable.assign(value)
            raise

    def load_own_variables(self, store):
        """Reads them; refuses the state of a run with another teacher."""
        store, expected = fingerprint.read_fingerprint(store)
        seeds = [name for name in store.keys() if name.startswith("seed_")]
        for i, variable in enumerate(self._seeds() if seeds else ()):
            variable.assign(store[f"seed_{i}"])
        store = {name: store[name] for name in store.keys() if name not in seeds}
        if expected is not None:
            if self.held.teacher is not None:
                fingerprint.verify_fingerprint(self.teacher_fingerprint(), expected)
            self.held.fingerprint = expected
        super().load_own_variables(store)

    def get_config(self):
        """All but the teacher, of which there is the fingerprint."""
        serialize = keras.saving.serialize_keras_object
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
            "heads": self.held.heads,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """A Distiller without its teacher: `distiller.teacher = teacher` follows."""
        config = dict(config)
        fingerprint, heads = config.pop("teacher_fingerprint"), config.pop("heads")
        for key in ("student", "distillation_losses", "views"):
            config[key] = keras.saving.deserialize_keras_object(
                config[key], custom_objects
            )
        distiller = cls(None, **config)
        distiller.held.fingerprint = fingerprint
        distiller.held.heads = tuple(heads) if heads else None
        return distiller

    def get_compile_config(self):
        """Keras's own, and who compiled."""
        config = super().get_compile_config()
        if not self.compiled:
            return config
        held = self.held
        ours = {"borrowed": held.borrowed, "by_us": held.compiled_by_us}
        return {**config, "who": {**ours, "kind": held.kind}}

    def compile_from_config(self, config):
        """Compiles again; takes over from the student again."""
        config = dict(config)
        who = config.pop("who", {})
        if who.get("borrowed") and self.student.compiled:
            prepare.compile_like_student(self, labels=config.get("loss") is not None)
        elif config:
            self.compile(**keras.saving.deserialize_keras_object(config))
        else:
            return
        self.held.compiled_by_us = who.get("by_us", False)
        self.held.kind = who.get("kind")
        prepare.exclude_from_weight_decay(self)
        if self.built:
            self.optimizer.build(self.trainable_variables)
