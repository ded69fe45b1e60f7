"""What a Distiller is compiled with where the user did not compile it."""

import dataclasses
import sys

import keras

from keras_dtkd.core.issue import describe_error
from keras_dtkd.core.layer_tree import iter_layers
from keras_dtkd.core.logits import OutputKind
from keras_dtkd.core.snapshot import are_same
from keras_dtkd.training import task_loss


@dataclasses.dataclass(frozen=True)
class CompileOrigin:
    """Where what a Distiller is compiled with comes from."""

    source: str = "user"  # Or `"student"`, if taken over from it, or `"default"`.
    # Of labels that the default fits: `"sparse"`, `"one-hot"`, `"several"`.
    label_format: str | None = None
    is_automatic: bool = False  # The Distiller compiled itself, and may do so again.
    # What `compile` was given.
    arguments: dict = dataclasses.field(default_factory=dict)
    # `students_compilation` of the student when the Distiller compiled itself.
    student: tuple = ()
    # Settings of the student's optimizer where the Distiller's is a copy of it.
    copied_settings: dict | None = None

    @property
    def metrics(self):
        """The metrics, in a list."""
        names = "metrics", "weighted_metrics"
        return keras.tree.flatten([self.arguments.get(name) for name in names])

    def get_config(self):
        """All but what is in Keras's own configuration, or in none."""
        names = "source", "label_format", "is_automatic"
        return {name: getattr(self, name) for name in names}


def is_compiled(student):
    """Whether a student can be trained as it was compiled.

    Keras calls one compiled that it loaded, though a `compile` of the student's class
    was left out.
    """
    return student.compiled and getattr(student, "optimizer", None) is not None


def students_compilation(student):
    """What is other objects once the student is compiled again."""
    if not is_compiled(student):
        return ()
    # Keras makes it anew each time, and forgets it when the Distiller is compiled.
    tracker = [metric for metric in student.metrics if metric.name == "loss"]
    return student.optimizer, student.loss, *tracker


def default_compile(distiller, labels):
    """Compiles as the student was, or with the cross-entropy that fits the labels.

    What the user compiled stays. What was compiled here is compiled again when there
    are labels for the first time, or others, or the student was compiled since.
    `labels` are NumPy, or `None`.

    Raises:
        ValueError: Several outputs, whose losses cannot be guessed; or metrics of the
            student that cannot be made again.
    """
    origin = distiller.compile_origin
    label_format = _label_format(distiller, labels)
    is_changed = label_format not in (None, origin.label_format)
    student = students_compilation(distiller.student)
    is_changed = is_changed or not are_same(student, origin.student)
    may_recompile = origin.is_automatic and not distiller.run_context.is_fitting
    if distiller.compiled and not (may_recompile and is_changed):
        return
    optimizer, options = default_optimizer(distiller.student), {}
    if distiller.compiled:
        optimizer = distiller.optimizer
        names = ("run_eagerly", "jit_compile", "steps_per_execution")
        options = {name: getattr(distiller, name) for name in names}
    takes_over = is_compiled(distiller.student)
    if takes_over:
        compile_like_student(distiller, labels is not None)
    elif labels is None:
        distiller.compile(optimizer=optimizer, **options)
    elif task_loss.is_own(distiller.student):
        raise ValueError(
            f"`Distiller`: the student's class `{type(distiller.student).__name__}` "
            "computes its own loss (`compute_loss`), and is not compiled. Compile it "
            "as for a `fit` of its own: `student.compile(optimizer, ...)`."
        )
    else:
        spec = distiller.output_specs.get().student
        loss, accuracy = default_task_loss(spec.output_kind, label_format)
        # Where weights are those of positions, padding has no part in the accuracy.
        kind = "weighted_metrics" if len(spec.shape) > 2 else "metrics"
        distiller.compile(optimizer, loss, **{kind: [accuracy]}, **options)
    distiller.compile_origin = dataclasses.replace(
        distiller.compile_origin,
        source="student" if takes_over else "default",
        label_format=label_format,
        is_automatic=True,
        student=students_compilation(distiller.student),
    )


def _label_format(distiller, labels):
    if labels is None:
        return None
    shapes = list(distiller.output_specs.get().student.shapes.values())
    labels = keras.tree.flatten(labels)
    if len(labels) > 1 or len(shapes) > 1:
        return "several"
    is_one_hot = labels[0].shape[-1:] == shapes[0][-1:]
    return "one-hot" if is_one_hot and labels[0].ndim == len(shapes[0]) else "sparse"


def default_optimizer(student):
    """Adam, which a student in bfloat16 needs with another `beta_2`.

    Of its default nothing is left there, see `validation.models`.
    """
    is_half = any(v.dtype == "bfloat16" for v in student.trainable_variables)
    return keras.optimizers.Adam(beta_2=0.95) if is_half else "adam"


def default_task_loss(output_kind, label_format):
    """The cross-entropy and accuracy that fit the student's output and the labels."""
    if label_format == "several":
        raise ValueError(
            "`Distiller`: the student or the labels have several outputs. Compile the "
            "student (or the Distiller) with a loss for those that learn from labels, "
            "by name: `student.compile(optimizer, loss={'logits': ...})`. The others "
            "need none."
        )
    from_logits = output_kind in (OutputKind.LOGITS, OutputKind.BINARY_LOGITS)
    if output_kind.is_multilabel:
        threshold = 0.0 if from_logits else 0.5
        accuracy = keras.metrics.BinaryAccuracy(name="accuracy", threshold=threshold)
        return keras.losses.BinaryCrossentropy(from_logits=from_logits), accuracy
    if label_format == "one-hot":
        loss = keras.losses.CategoricalCrossentropy(from_logits=from_logits)
    else:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits)
    return loss, "accuracy"


def compile_like_student(distiller, has_labels=True):
    """Compiles the Distiller as the student was: its very optimizer, loss, metrics.

    Raises:
        ValueError: Its metrics cannot be made again.
    """
    student = distiller.student
    config = dict(student.get_compile_config())
    loss = student.loss
    unused = {"optimizer", "loss"}
    if task_loss.is_own(student):
        loss = None
        unused |= {"loss_weights"}
    if task_loss.overrides(student, "compute_metrics"):
        unused |= {"metrics", "weighted_metrics"}
    if not has_labels:
        loss = None
        unused |= {"loss_weights", "metrics", "weighted_metrics"}
    config = {key: value for key, value in config.items() if key not in unused}
    config = _clone_compile_config(config)
    optimizer, copied = student.optimizer, None
    # One that knows the student's variables alone can train no others, and one that
    # trains others too is of no use to the student afterwards.
    if distiller.compiled and optimizer in distiller.compile_origin.student[:1]:
        copied = distiller.compile_origin.copied_settings
        optimizer = distiller.optimizer
    elif len(distiller.trainable_variables) > len(student.trainable_variables):
        copied = optimizer.get_config()
        optimizer = copy_optimizer(optimizer)
    else:
        optimizer = _renew_unused_optimizer(distiller)
    distiller.compile(optimizer=optimizer, loss=loss, **config)
    distiller.compile_origin = dataclasses.replace(
        distiller.compile_origin, copied_settings=copied
    )


def copy_optimizer(optimizer):
    """A new optimizer of the same settings, without its state."""
    return type(optimizer).from_config(optimizer.get_config())


def find_changed_original(distiller):
    """The student's optimizer, if the Distiller's is a copy of it and it was changed.

    As by `student.optimizer.learning_rate = 0.01` between two runs.
    """
    settings = distiller.compile_origin.copied_settings
    original = getattr(distiller.student, "optimizer", None)
    if settings is None or original is None or original.get_config() == settings:
        return None
    return original


def compile_again(distiller, optimizer):
    """Compiles as before, with another optimizer."""
    origin, student = distiller.compile_origin, distiller.student
    distiller.compile(**{**origin.arguments, "optimizer": optimizer})
    copied = student.optimizer.get_config() if origin.source == "student" else None
    distiller.compile_origin = dataclasses.replace(
        origin,
        arguments=distiller.compile_origin.arguments,
        copied_settings=copied,
    )


def _clone_compile_config(config):
    """The student's metrics and the like, as objects of their own."""
    deserialize = keras.saving.deserialize_keras_object
    try:
        return deserialize(config)
    except (TypeError, ValueError) as error:
        # A notebook's own metrics are registered nowhere, and found by their names.
        custom_objects = {
            name: value
            for name, value in vars(sys.modules["__main__"]).items()
            if getattr(value, "__module__", None) == "__main__" and callable(value)
        }
        try:
            return deserialize(config, custom_objects=custom_objects)
        except (TypeError, ValueError):
            raise ValueError(
                "`Distiller`: the student's metrics cannot be made again from their "
                "configuration. Register them "
                "(`keras.saving.register_keras_serializable`), or compile the "
                "Distiller itself: `distiller.compile(...)`. Keras raised: "
                f"{describe_error(error)}"
            ) from error


def exclude_from_weight_decay(distiller):
    """Excludes from weight decay what losses, temperatures and student layers exempt.

    A layer exempts variables by `variables_without_weight_decay()`. Keras keeps one
    list of exclusions, in no file: where there are such variables, they replace a list
    that the user gave the optimizer.
    """
    excluded = _variables_without_weight_decay(distiller)
    if excluded and not distiller.optimizer.built:
        _exclude(distiller.optimizer, excluded)


def _renew_unused_optimizer(distiller):
    """The student's optimizer, made anew if it was built before it excludes variables.

    Keras builds that of a model which it loads or clones.
    """
    student, optimizer = distiller.student, distiller.student.optimizer
    excluded = _variables_without_weight_decay(distiller)
    if excluded and optimizer.built and int(optimizer.iterations) == 0:
        student.optimizer = copy_optimizer(optimizer)
        _exclude(student.optimizer, excluded)
        student.optimizer.build(student.trainable_variables)
    return student.optimizer


def _exclude(optimizer, variables):
    # In float16 one within another holds the weight decay.
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    optimizer.exclude_from_weight_decay(var_list=variables)


def _variables_without_weight_decay(distiller):
    parts = *distiller.distillation_losses.values(), *iter_layers(distiller.student)
    return [
        variable
        for part in parts
        if hasattr(part, "variables_without_weight_decay")
        for variable in part.variables_without_weight_decay()
        if variable.trainable
    ]
