"""The input of all checks: a Distiller's parts, its data, and measurements."""

import dataclasses
from typing import Any, NamedTuple

from keras_dtkd.core.logits import OutputKind
from keras_dtkd.teachers.inputs import read_sample
from keras_dtkd.teachers.sample_ids import model_inputs


class CompiledSettings(NamedTuple):
    """What a Distiller is compiled with, and where it will run."""

    loss: Any
    loss_weights: Any  # Known with `chunk_size` alone.
    task_weight: float
    is_default: bool  # Whether the user compiled neither Distiller nor student.
    metrics: list
    optimizer: Any
    jit_compile: bool
    steps_per_execution: int
    is_distributed: bool


@dataclasses.dataclass(frozen=True)
class ValidationContext:
    """What is known before the first step; `None` where it is not, or not yet.

    Attributes:
        run: `"fit"`, `"train_on_batch"`, `"evaluate"`, `"test_on_batch"`,
            `"diagnose"`, or `"compute_losses"`.
        student: The `keras.Model`.
        teacher: The `Teacher`, if it runs.
        losses: Distillation losses by name.
        views: Views by name.
        output: Name or index of the distilled output.
        evaluate_distillation: As the Distiller's.
        has_own_loss: Whether the student's class computes its loss on the labels.
        chunk_size: As the Distiller's.
        heads: With it, by role, whether the model's logits are its hidden states times
            `training.chunked_step.find_output_embedding`.
        caches: With a rollout, by role, whether the logits that a KerasHub `CausalLM`
            has with its cache of keys and values are those of a forward pass.
        rollout: The `Rollout` if the run has one: `sample` has the sequences' form.
        sample: Some samples of the data, a `data_peek.Sample`.
        x: The data as the run was given it.
        y: Labels of arrays.
        sample_weight: Weights of arrays.
        class_weight: As `fit` was given it.
        batch_size: As the run was given it.
        validation: A `Sample` of the validation data: arrays, or a first batch.
        validation_split: As `fit` was given it.
        specs: By the key of each distilled output, the student's and the teacher's
            `OutputSpec`; the main output first.
        teacher_outputs: The teacher's main outputs for the sample, NumPy, if it just
            ran.
        mask: Which positions of sequences in the sample the student's mask leaves in,
            NumPy; measured where it is needed.
        zero_gradients: Roles (`"teacher"`) of models without any input gradient.
        compiled: The `CompiledSettings`.
        recovered_outputs: Names of outputs whose logits Keras's loss recovers.
        preparation_issues: Issues that were found in building and running the models.
    """

    run: str
    student: Any
    teacher: Any
    losses: dict
    views: dict
    output: Any
    evaluate_distillation: bool
    sample: Any
    has_own_loss: bool = False
    x: Any = None
    y: Any = None
    sample_weight: Any = None
    class_weight: Any = None
    batch_size: Any = None
    validation: Any = None
    validation_split: Any = None
    rollout: Any = None
    chunk_size: int | None = None
    heads: dict = dataclasses.field(default_factory=dict)
    caches: dict = dataclasses.field(default_factory=dict)
    specs: dict = dataclasses.field(default_factory=dict)
    teacher_outputs: Any = None
    mask: Any = None
    zero_gradients: tuple = ()
    compiled: CompiledSettings | None = None
    recovered_outputs: tuple = ()
    preparation_issues: tuple = ()

    @property
    def is_training(self):
        """Whether a step will train."""
        return self.run in ("fit", "train_on_batch", "diagnose")

    @property
    def inputs(self):
        """Inputs of the sample, as models take them: without sample ids."""
        return model_inputs(self.sample.x)

    @property
    def teacher_inputs(self):
        """Inputs of the sample as the teacher's models take them, NumPy."""
        if self.teacher is None:
            return self.inputs
        return read_sample(self.teacher, self.sample.x)[0]

    @property
    def has_own_tokens(self):
        """Whether the teacher has tokens of its own, for outputs of a text alone."""
        spec, teacher = self.student_spec, self.teacher
        return teacher.input_source is not None and len(getattr(spec, "shape", ())) < 3

    def name_of(self, loss):
        """The name under which a loss was given."""
        return next(name for name, known in self.losses.items() if known is loss)

    @property
    def student_spec(self):
        """The student's main `OutputSpec`, or `None`."""
        return next((student for student, _ in self.specs.values()), None)

    @property
    def teacher_spec(self):
        """The teacher's main `OutputSpec`, or `None`."""
        return next((teacher for _, teacher in self.specs.values()), None)

    @property
    def chance_arguments(self):
        """What shows whether the teacher knows more than chance."""
        sample, outputs = self.sample, self.teacher_outputs
        return outputs, sample.y, sample.sample_weight, self.mask

    @property
    def is_regression(self):
        """Whether the main output is that of a regression."""
        spec = self.student_spec
        return spec is not None and spec.output_kind == OutputKind.REGRESSION

    def specs_of(self, loss):
        """The student's and the teacher's `OutputSpec` for a loss, or `None`s."""
        key = self.output if loss.distilled_output is None else loss.distilled_output
        return self.specs.get(key, (None, None))

    def with_issues(self, issues):
        """A copy with further issues of the preparation."""
        issues = (*self.preparation_issues, *issues)
        return dataclasses.replace(self, preparation_issues=issues)
