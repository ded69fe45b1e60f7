"""What the Distiller needs and Keras must neither track, save nor train."""

from typing import Any, NamedTuple

from keras_dtkd.backend.deferred_interrupt import DeferredInterrupt


class Heard(NamedTuple):
    """What travels where Keras expects labels: they, and what the teacher said."""

    y: Any
    outputs: Any
    features: Any
    values: Any = None
    gradient: Any = None
    targets: Any = None
    direction: Any = None


class Held:
    """State that is no part of the model.

    Attributes:
        teacher: The `Teacher`, or `None` after loading.
        fingerprint: That of the teacher which a loaded state expects, or `None`.
        cached_fingerprint: The teacher's own, while a `fit` saves repeatedly.
        heads: Heads of student and teacher, see `keras_dtkd.core.logits`.
        student_shapes: Shapes of the student's outputs for a sample, by name.
        looked: For which data models and outputs were checked.
        stepped: The kind of batch that `train_on_batch` was last given.
        student_features: Recorded in the forward pass of the current step.
        student_gradient: With respect to the inputs, taken in that pass.
        asked: The `Heard` for which the student's next pass is to take it.
        interrupts: Holds Ctrl-C back while a step runs.
        only_task_loss: Whether regularizers are hidden for now.
        compiled_by_us: Whether `compile` was left to us.
        kind: Kind of labels that we compiled for.
        metrics: Those that were compiled.
        borrowed: Whether optimizer, loss and metrics are the student's.
        evaluating: Whether metrics are those of `evaluate`.
        train_labels: Whether the training data has labels.
        test_labels: Whether the evaluated data has.
        in_step: Whether a step asks for its metrics.
        ranks: Under `torch.distributed`, the exchange between processes while they
            train; `None` otherwise.
        begun: Whether they have begun alike.
        fitting: Whether a `fit` is running.
    """

    def __init__(self):
        self.teacher: Any = None
        self.fingerprint = None
        self.cached_fingerprint = None
        self.heads = None
        self.student_features = {}
        self.student_gradient = None
        self.asked = None
        self.interrupts = DeferredInterrupt()
        self.only_task_loss = False
        self.borrowed = False
        self.compiled_by_us = False
        self.kind = None
        self.metrics = []
        self.looked = None
        self.stepped = None
        self.student_shapes = None
        self.evaluating = False
        self.train_labels = True
        self.test_labels = True
        self.in_step = False
        self.ranks = None
        self.begun = False
        self.fitting = False


class flag:  # noqa: N801 - used as a function
    """Sets an attribute to True for a while."""

    def __init__(self, owner, name):
        self.owner, self.name = owner, name

    def __enter__(self):
        self.before = getattr(self.owner, self.name)
        setattr(self.owner, self.name, True)

    def __exit__(self, *exception):
        setattr(self.owner, self.name, self.before)
