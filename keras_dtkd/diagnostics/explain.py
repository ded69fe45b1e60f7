"""What a student took from its teacher, measured on labelled data."""

import itertools

import keras

from keras_dtkd.core import arrays
from keras_dtkd.core.arguments import check_in_range, check_positive_int
from keras_dtkd.diagnostics import classifier_pair, sampling
from keras_dtkd.diagnostics.pair_statistics import PairStatistics
from keras_dtkd.distiller import Distiller
from keras_dtkd.losses.kd import KD
from keras_dtkd.preparation import text
from keras_dtkd.teachers.forward import compile_teacher
from keras_dtkd.teachers.model_teacher import ModelTeacher

CALLER = "explain"


def explain(
    teacher,
    student,
    data,
    *,
    class_names=None,
    temperature=4.0,
    from_logits="auto",
    output=None,
    batches=None,
    teacher_inputs=None,
    verbose=1,
):
    """Measures what a student took from its teacher, on labelled data.

    For any two classifiers of the same classes, however the student was trained:
    accuracy and agreement of each class, the teacher's confusions that the student took
    over, the soft labels of both, their calibration, and the samples whose soft labels
    have the largest gradients. See `keras_dtkd.diagnostics.Explanation`.

    Nothing is trained: weights, random states, statistics, optimizers and flags of both
    models stay as they are, bit for bit.

    Args:
        teacher: As for `Distiller`: a model, a list of models, a folder of stored
            outputs, a `Teacher`.
        student: A `keras.Model`. It need not be compiled.
        data: A tuple `(x, y)` or `(x, y, sample_weight)` of arrays, or an iterable of
            batches that `fit` takes; text too, where the student has a preprocessor.
            Labels are integers, or one-hot. What has a weight of 0, or the label -1 (or
            the `ignore_class` of the student's loss), counts nowhere.
        class_names: A name for each class. Optional; numbers by default.
        temperature: Temperature of the soft labels and of the gradients. Positive.
        from_logits: As for `Distiller`.
        output: As for `Distiller`.
        batches: Number of batches, `None` for all; of arrays, 64 samples each, spread
            over all of them.
        teacher_inputs: As for `Distiller`.
        verbose: Whether to show a progress bar, and to print the tables.

    Returns:
        A `keras_dtkd.diagnostics.Explanation`.

    Raises:
        TypeError: An argument is not a model.
        ValueError: The data has no labels, or none that counts; the models have unlike
            classes, or choose no single class for each sample (detectors, multi-label,
            sequences, regression); or an argument is invalid.

    Example:

    >>> explanation = keras_dtkd.explain(teacher, student, (x_test, y_test))
    >>> keras_dtkd.plots.explanation(explanation).savefig("explanation.png")
    """
    temperature = check_in_range(CALLER, "temperature", temperature, 0)
    if batches is not None:
        batches = check_positive_int(CALLER, "batches", batches)
    options = {"from_logits": from_logits, "output": output}
    options["teacher_inputs"] = teacher_inputs
    distiller = Distiller(teacher, student, KD(temperature), **options)
    teacher = distiller.teacher_reference.teacher
    classifier_pair.check_detectors(student, teacher)
    data = text.preprocess_data(distiller, data)
    samples = sampling.iter_samples(CALLER, data, batches, teacher)
    first = next(samples, None)
    if first is None:
        raise ValueError("`explain`: `data` holds no batch. Give some samples.")
    pair = classifier_pair.inspect_pair(distiller, first[0], data, class_names)
    statistics = PairStatistics(len(pair.class_names), temperature)
    total = sampling.count_batches(data, batches)
    progress = keras.utils.Progbar(total, verbose=bool(verbose), unit_name="batch")
    run_teacher = compile_teacher(teacher)
    run_student = compile_teacher(ModelTeacher(student), "the student")
    count = 0
    for count, (sample, indices) in enumerate(itertools.chain([first], samples), 1):
        classifier_pair.check_labels(pair, sample)
        x = arrays.to_tensors(sample.x)
        teacher_spec, student_spec = pair.teacher_spec, pair.student_spec
        teacher_logits = teacher_spec.select_logits(run_teacher(x))
        student_logits = student_spec.select_logits(run_student(x))
        labels = student_spec.select(sample.y)
        if len(labels) != len(student_logits):
            raise ValueError(
                f"`{CALLER}`: a batch has {len(student_logits)} inputs and "
                f"{len(labels)} labels. Give one for each input."
            )
        weights = classifier_pair.find_weights(pair, sample)
        statistics.update(teacher_logits, student_logits, labels, weights, indices)
        progress.update(count)
    if count != total:
        progress.update(count, finalize=True)
    explanation = statistics.summarize(pair.class_names)
    if verbose:
        print(explanation)
    return explanation
