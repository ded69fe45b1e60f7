"""The output of each model that a loss compares."""

import dataclasses
from typing import Any, NamedTuple

import keras

from keras_dtkd.core import logits
from keras_dtkd.core.logits import OutputKind
from keras_dtkd.core.masking import MaskPreserving
from keras_dtkd.losses.resolve import needs_output

# The key of a loss that compares no outputs.
ALL = ...

_to_logits = MaskPreserving(logits.to_logits)


@dataclasses.dataclass(frozen=True)
class OutputSpec:
    """The output of one model that is distilled.

    Attributes:
        role: `"teacher"` or `"student"`, for messages.
        key: Name or index of the output; `None` where there is only one.
        shape: Of the output for the sample, `(batch, ..., classes)`.
        shapes: Of all outputs, by name; `None` names the only one. A student's are
            those of inference.
        output_kind: An `OutputKind`.
        names: The model's `output_names`, or `None`.
        is_multi_output: Whether the model has several outputs.
        member_kinds: Of an ensemble, the kinds of its members.
        training_keys: Keys of all outputs in training.
        is_compared: Whether losses compare it. If not, there are no logits, and the
            labels of all outputs are selected together.
        num_classes: Of the classes so many are compared, `None` for all: language
            models may have outputs for more tokens than their tokenizer has.
    """

    role: str
    key: Any
    shape: tuple
    shapes: Any
    output_kind: OutputKind
    names: Any = None
    is_multi_output: bool = False
    member_kinds: tuple = ()
    training_keys: tuple = ()
    num_classes: int | None = None
    is_compared: bool = True

    def select(self, values):
        """This output's part of a model's outputs, labels or weights, or `KeyError`."""
        if not self.is_compared:
            return values
        return logits.select_output(values, self.key, self.names)

    def select_compared(self, outputs):
        """As `select`, `None` where losses do not compare it."""
        return self.select(outputs) if self.is_compared else None

    def get(self, values, default=None):
        """As `select`, but `default` where there is no such part."""
        try:
            return self.select(values)
        except KeyError:
            return default

    def select_weights(self, values, has_own_loss=False):
        """As `get`; one array, `None` where there are several.

        `has_own_loss` is for a student that computes its own loss. Its labels may be
        those of no output, and Keras makes one array of weights one for each of them;
        as it does where losses compare layers and none of several outputs.
        """
        is_any = has_own_loss or not self.is_compared
        weights = self.get(values, values if is_any else None)
        if is_any:
            leaves = keras.tree.flatten(weights)
            weights = next((leaf for leaf in leaves if leaf is not None), None)
        return None if keras.tree.is_nested(weights) else weights

    def select_logits(self, outputs):
        """The logits of this output, with its mask, from what the model returned.

        `None` where it is not compared.
        """
        if not self.is_compared:
            return None
        kwargs = {"output_kind": self.output_kind, "num_classes": self.num_classes}
        return _to_logits(self.select(outputs), **kwargs)

    def to_dict(self):
        """A form for JSON."""
        return {**dataclasses.asdict(self), "shapes": list(self.shapes.items())}

    @classmethod
    def from_dict(cls, config):
        """From what `to_dict` gave, with lists for tuples where it was JSON."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in config.items()
        }
        values["shapes"] = {name: tuple(shape) for name, shape in config["shapes"]}
        values["output_kind"] = OutputKind(config["output_kind"])
        return cls(**values)


class SpecPair(NamedTuple):
    """The `OutputSpec`s of one distilled output; `None` where one is not known."""

    student: Any = None
    teacher: Any = None


class OutputSpecs:
    """The `SpecPair`s of all distilled outputs. Not a dict, which Keras would track.

    `pairs` has them by the outputs' keys, the Distiller's main output first. `labelled`
    are the keys of the student's training outputs that the labels belong to, where
    there are more of them than in inference; else `None`.
    """

    def __init__(self, pairs=None, labelled=None):
        self.pairs = pairs or {}
        self.labelled = labelled

    def get(self, key=None):
        """The pair of one output; of the main one by default, of none for `ALL`."""
        main = next(iter(self.pairs.values()), SpecPair())
        if key is ALL:
            return SpecPair(
                *(dataclasses.replace(spec, is_compared=False) for spec in main)
            )
        return main if key is None else self.pairs[key]

    def key_of(self, loss):
        """The key of a loss's output: `None` for the main one.

        `ALL` where it neither names nor compares one, and the models have several.
        """
        if needs_output(loss):
            return loss.distilled_output
        is_one = not any(spec.is_multi_output for spec in self.get())
        return None if is_one else ALL

    @property
    def is_regression(self):
        """Whether the main output is that of a regression."""
        student = self.get().student
        return student is not None and student.output_kind == OutputKind.REGRESSION

    @property
    def has_classes(self):
        """Whether the main outputs make choices in which two models could agree."""
        student = self.get().student
        is_compared = student is None or student.is_compared
        return is_compared and not self.is_regression

    def with_teachers_of(self, others):
        """A copy that knows the teacher's outputs where `others` alone know them."""
        pairs = {
            key: SpecPair(student, teacher or others.pairs.get(key, SpecPair()).teacher)
            for key, (student, teacher) in self.pairs.items()
        }
        return OutputSpecs(pairs, self.labelled)

    def without_teachers(self):
        """A copy that does not know the teacher's outputs."""
        pairs = {key: SpecPair(student) for key, (student, _) in self.pairs.items()}
        return OutputSpecs(pairs, self.labelled)

    def select_labelled(self, outputs):
        """The student's outputs that the labels belong to."""
        is_nested = isinstance(outputs, dict | list | tuple)
        if self.labelled is None or not is_nested:
            return outputs
        if len(outputs) <= len(self.labelled):
            # Those of inference.
            return outputs
        if None in self.get().student.shapes:
            return outputs[self.labelled[0]]
        if isinstance(outputs, dict):
            return {key: outputs[key] for key in self.labelled}
        return [outputs[key] for key in self.labelled]
