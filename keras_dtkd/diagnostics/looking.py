"""A Distiller made for looking, and what it would have refused to train."""

import warnings

import keras

from keras_dtkd import backend
from keras_dtkd.core import logits
from keras_dtkd.core.compiled_loss import declared_from_logits as says_logits
from keras_dtkd.core.compiled_loss import select_for_output
from keras_dtkd.diagnostics.witness import Silent, Witness
from keras_dtkd.distiller import Distiller
from keras_dtkd.losses.resolve import resolve_losses
from keras_dtkd.preparation import prepare
from keras_dtkd.validation import labels as label_checks
from keras_dtkd.validation import models, task_loss
from keras_dtkd.validation.issue import ERROR, Issue

# The name of the doctor's own loss, which sees the batch as it is even where all others
# are for views of it. No user's: it has a space.
ITSELF = "batch itself"
AS_LOGITS, AS_PROBABILITIES = "probabilities_as_logits", "logits_as_probabilities"


def distiller(teacher, student, losses, from_logits, output, views):
    """A Distiller whose losses are `Witness`es, and one more of the batch itself."""
    found = {name: Witness(loss) for name, loss in resolve_losses(losses).items()}
    return Distiller(
        teacher,
        student,
        {**found, ITSELF: Witness(Silent())},
        from_logits=from_logits,
        output=output,
        views=views,
    )


def losses_of(made):
    """The user's losses by name, without the doctor's."""
    losses = made.distillation_losses.items()
    return {name: seen.loss for name, seen in losses if name != ITSELF}


def look(made, sample):
    """All that the Distiller checks before its first step.

    Args:
        made: The Distiller.
        sample: The first `keras_dtkd.preparation.data_peek.Sample`.

    Returns:
        `(findings, seen)`: whether there is anything further to look at.
    """
    try:
        models.validate_finite_weights(made.teacher_reference.teacher)
        models.require_labels(made, sample)
        models.build_models(made, sample)
    except ValueError as error:
        return [Issue("refused", ERROR, str(error))], False
    try:
        _look(made, sample)
        return [], True
    except ValueError as error:
        message = str(error)
    if made.from_logits != "auto":
        name = AS_LOGITS if made.from_logits else AS_PROBABILITIES
        # Whatever else there is to be seen shows when each output is taken for what
        # it is.
        made.from_logits = "auto"
        try:
            _look(made, sample)
            return [Issue(name, ERROR, message)], True
        except ValueError as error:
            message = str(error)
    return [Issue("refused", ERROR, message)], False


def _look(made, sample):
    with warnings.catch_warnings(), keras.StatelessScope():
        # That of a teacher at chance, on too few samples: ours are more.
        warnings.filterwarnings("ignore", message="`Distiller`: on ")
        # `nan_inputs` says it of all samples.
        warnings.filterwarnings("ignore", message="`Distiller`: the data holds NaN")
        prepare.inspect_models(made, sample)


def compile_task(made, samples):
    """Compiles with the loss that `fit` would train with; touches no optimizer.

    Args:
        made: The Distiller, after `look`.
        samples: Of `keras_dtkd.preparation.data_peek.Sample`.

    Returns:
        `(findings, has_task)`: about loss and labels, and whether there is a task loss
        that the labels fit.
    """
    student, labels = made.student, samples[0].y
    if labels is None:
        return [], False
    try:
        options = {}
        if student.compiled:
            loss = student.loss
            options["loss_weights"] = student.get_compile_config().get("loss_weights")
        else:
            loss = prepare.default_task_loss(made, labels)[0]
        with backend.building_scope(made):
            made.compile("sgd", loss, **options)
        for sample in samples:
            label_checks.validate_labels(made, sample.y)
    except ValueError as error:
        return [Issue("labels", ERROR, str(error))], False
    return _takes_for_what_it_is(made, samples[0]), loss is not None


def _takes_for_what_it_is(made, sample):
    """A compiled cross-entropy and the head before it agree in what they are."""
    names, key = list(made.student_shapes), made.distilled_output
    index = key if isinstance(key, int) else 0
    place = names.index(key) if key in names else index
    name = names[place]
    loss, y = (select_for_output(part, name, place) for part in (made.loss, sample.y))
    head = made.output_kinds[0]
    if not task_loss.from_logits_contradicts(head, says_logits(loss)):
        return []
    gives_logits = head in (logits.LOGITS, logits.BINARY)
    if not gives_logits and task_loss.keras_recovers_logits(
        made.student, loss, sample, y, name
    ):
        return []
    gives, taken = ("logits", "probabilities")[:: 1 if gives_logits else -1]
    return [
        Issue(
            AS_PROBABILITIES if gives_logits else AS_LOGITS,
            ERROR,
            f"The student gives {gives}, and the loss it was compiled with takes them "
            f"for {taken}. Compile it with a loss that has "
            f"`from_logits={gives_logits}` (a loss given by its name has False).",
        )
    ]


def stated_wrongly(made, rows):
    """Distributions that a teacher calls logits, or whose last layer seems linear."""
    found = []
    sides = zip(("student", "teacher"), made.output_kinds, rows[:2], strict=True)
    for role, head, values in sides:
        if head == logits.LOGITS and logits.look_like_probabilities(values):
            found.append(
                Issue(
                    AS_LOGITS,
                    ERROR,
                    f"The {role}'s outputs are taken for logits, and look like "
                    "probabilities: they lie in [0, 1] and sum to 1. Give logits, or "
                    "pass `from_logits=False`; a `Teacher` says what it gives in its "
                    "attribute `head`.",
                )
            )
    return found
