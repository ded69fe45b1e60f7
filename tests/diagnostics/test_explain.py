"""`explain` for any pair of classifiers and any data: what it finds, and refuses."""

import json

import keras
import numpy as np
import pytest
from keras import layers

from keras_dtkd import Distiller, explain, plots
from keras_dtkd.diagnostics import Explanation
from keras_dtkd.losses import KD
from keras_dtkd.teachers import store, with_sample_ids
from tests import tiny_models
from tests.logit_models import draw_logits, models_of

TEACHER, STUDENT, LABELS = draw_logits()
COUNT, CLASSES = TEACHER.shape


def run(*args, **kwargs):
    return explain(*args, verbose=0, **kwargs)


@pytest.fixture(scope="module")
def pair():
    """Teacher, student and inputs, for which the models give the logits above."""
    return models_of(TEACHER, STUDENT)


@pytest.fixture(scope="module")
def reference(pair):
    teacher, student, x = pair
    return run(teacher, student, (x, LABELS))


def close(one, two):
    """Whether two explanations have the same numbers, but for rounding."""
    for a, b in zip(
        *(keras.tree.flatten(e.to_dict()) for e in (one, two)), strict=True
    ):
        if isinstance(a, float) and isinstance(b, float):
            assert a == pytest.approx(b, rel=1e-4, abs=1e-6)
        else:
            assert a == b
    return True


def test_numbers_are_those_of_the_models_outputs(reference):
    assert isinstance(reference, Explanation)
    t, s = TEACHER.argmax(-1), STUDENT.argmax(-1)
    overall = reference.overall
    assert overall["teacher_accuracy"] == pytest.approx((t == LABELS).mean())
    assert overall["student_accuracy"] == pytest.approx((s == LABELS).mean())
    assert overall["agreement"] == pytest.approx((t == s).mean())
    assert reference.class_names == list("01234")


# A quirk: what both models learn apart from it is easy.
class Quirk(keras.layers.Layer):
    """Moves the greatest logit from class 3 to class 1 where the last input is > 0."""

    def call(self, inputs):
        x, logits = inputs
        is_moved = keras.ops.cast(x[:, -1:] > 0, "float32")
        change = keras.ops.convert_to_tensor([[0.0, 1.0, 0.0, -1.0]])
        is_three = keras.ops.cast(keras.ops.argmax(logits, axis=-1) == 3, "float32")
        return logits + 12.0 * change * is_moved * is_three[:, None]


@pytest.fixture(scope="module")
def quirky_teacher():
    teacher = tiny_models.teacher()
    inputs = keras.Input((tiny_models.FEATURES,))
    return keras.Model(inputs, Quirk()([inputs, teacher(inputs)]))


def trained_student(train):
    student = tiny_models.student(width=24)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    student.compile(keras.optimizers.Adam(0.02), loss)
    x, y = tiny_models.data(512, seed=5)
    train(student, x, y)
    return student


@pytest.mark.graph
def test_a_planted_confusion_is_found_in_the_student_that_took_it_over(quirky_teacher):
    def distill(student, x, y):
        distiller = Distiller(quirky_teacher, student, KD(), task_weight=0.0)
        distiller.fit(x, y, batch_size=64, epochs=16, verbose=0)

    student = trained_student(distill)
    found = run(quirky_teacher, student, tiny_models.data(400, seed=6))
    assert [(c["label"], c["predicted"]) for c in found.taken_over] == [(3, 1)]
    (pair,) = found.taken_over
    assert 30 < pair["teacher_samples"] < 70
    assert pair["taken_over_share"] - pair["rate_elsewhere"] > 0.4
    assert found.confusions[0] == pair


@pytest.mark.graph
def test_a_planted_confusion_is_not_found_in_a_student_of_labels_alone(quirky_teacher):
    def fit(student, x, y):
        student.fit(x, y, batch_size=64, epochs=16, verbose=0)

    student = trained_student(fit)
    found = run(quirky_teacher, student, tiny_models.data(400, seed=6))
    assert found.overall["student_accuracy"] > 0.9
    assert found.taken_over == []
    (pair,) = [c for c in found.confusions if c["is_frequent"]]
    assert (pair["label"], pair["predicted"]) == (3, 1)
    assert pair["taken_over_share"] < 0.2


@pytest.mark.invariant(number=9)
def test_models_and_random_states_are_unchanged():
    teacher = tiny_models.teacher(compiled=True)
    student = tiny_models.student(dropout=0.3, norm=True)
    student.compile("adam", keras.losses.SparseCategoricalCrossentropy(True))
    x, y = tiny_models.data()
    student.train_on_batch(x, y)
    before = tiny_models.everything(teacher), tiny_models.everything(student)
    functions = student.train_function, student.optimizer, student.loss
    state = np.random.get_state()[1].copy()
    run(teacher, student, (x, y))
    assert (tiny_models.everything(teacher), tiny_models.everything(student)) == before
    assert (student.train_function, student.optimizer, student.loss) == functions
    assert np.array_equal(np.random.get_state()[1], state)


def test_training_afterwards_is_unchanged():
    x, y = tiny_models.data()

    def trained(explained):
        keras.utils.set_random_seed(3)
        models = tiny_models.teacher(), tiny_models.student(dropout=0.3)
        if explained:
            run(*models, (x, y))
        Distiller(*models, KD()).fit(x, y, epochs=2, verbose=0)
        return models[1]

    assert tiny_models.same(trained(True), trained(False))


def test_a_student_that_is_frozen_or_not_built_is_explained():
    x, y = tiny_models.data()
    student = tiny_models.student()
    student.trainable = False
    frozen = run(tiny_models.teacher(), student, (x, y))
    assert not student.trainable and frozen.num_samples == 32
    unbuilt = keras.Sequential([layers.Dense(tiny_models.CLASSES)])
    assert run(tiny_models.teacher(), unbuilt, (x, y)).num_samples == 32


class Batches(keras.utils.PyDataset):
    """Batches of 64 of the data above, without end if there is no `length`."""

    def __init__(self, x, length=4):
        super().__init__()
        self.x, self.length = x, length

    @property
    def num_batches(self):
        return self.length

    def __getitem__(self, i):
        rows = slice(64 * (i % 4), 64 * (i % 4) + 64)
        return self.x[rows], LABELS[rows]


def generate(x):
    for start in range(0, COUNT, 64):
        yield x[start : start + 64], LABELS[start : start + 64]


class Loader:
    """Batches that can be read again, without a length."""

    def __init__(self, x):
        self.x = x

    def __iter__(self):
        return generate(self.x)


@pytest.mark.parametrize("build", [Batches, generate, Loader])
def test_any_data_gives_the_same_numbers_and_indices(pair, reference, build):
    teacher, student, x = pair
    assert close(run(teacher, student, build(x)), reference)


@pytest.mark.single_backend
@pytest.mark.parametrize("form", ["one-hot", "column", "probabilities"])
def test_labels_and_outputs_of_any_form(pair, reference, form):
    teacher, student, x = pair
    y = {"one-hot": np.eye(CLASSES)[LABELS], "column": LABELS[:, None]}.get(
        form, LABELS
    )
    if form == "probabilities":
        teacher, student, x = models_of(TEACHER, STUDENT, "softmax")
    assert close(run(teacher, student, (x, y)), reference)


@pytest.mark.invariant(number=3)
def test_a_label_of_minus_1_or_a_weight_of_0_counts_nowhere(pair):
    teacher, student, x = pair
    keep = np.arange(COUNT) < 128
    expected = run(teacher, student, (x[keep], LABELS[keep]))
    ignored = run(teacher, student, (x, np.where(keep, LABELS, -1)))
    assert close(ignored, expected)
    assert close(run(teacher, student, (x, LABELS, keep.astype("float32"))), expected)


@pytest.mark.single_backend
@pytest.mark.parametrize("ignored", [255, 0])
def test_the_label_that_the_students_loss_ignores_counts_nowhere(pair, ignored):
    teacher, _, x = pair
    _, student, _ = models_of(TEACHER, STUDENT)
    loss = keras.losses.SparseCategoricalCrossentropy(True, ignore_class=ignored)
    student.compile("adam", loss)
    y = np.where(np.arange(COUNT) < 128, LABELS, ignored)
    found = run(teacher, student, (x, y))
    assert found.num_samples == (y != ignored).sum()
    column = run(teacher, student, (x, y[:, None], np.ones(COUNT)))
    assert close(column, found)


@pytest.mark.single_backend
def test_some_batches_of_arrays_are_spread_over_all_samples(pair):
    teacher, student, x = pair
    found = run(teacher, student, (x, LABELS), batches=2)
    assert found.num_samples == 128
    for sample in found.gradients["top_samples"]:
        assert sample["label"] == LABELS[sample["index"]]
        assert sample["teacher_prediction"] == TEACHER[sample["index"]].argmax()
    indices = [sample["index"] for sample in found.gradients["top_samples"]]
    assert max(indices) > 128


def test_an_ensemble_teaches_by_its_mean(pair, reference):
    teacher, student, x = pair
    assert close(run([teacher, teacher], student, (x, LABELS)), reference)


def test_stored_outputs_teach_as_their_model(pair, reference, tmp_path):
    teacher, student, x = pair
    store(teacher, x, tmp_path / "outputs", verbose=0)
    given = str(tmp_path / "outputs")
    assert close(run(given, student, (x, LABELS)), reference)
    rows = np.arange(10, 138)
    part = run(given, student, (with_sample_ids(x[rows], rows), LABELS[rows]))
    assert close(part, run(teacher, student, (x[rows], LABELS[rows])))
    with pytest.raises(ValueError, match="sample_ids"):
        run(given, student, (x[rows], LABELS[rows]))


@pytest.mark.single_backend
def test_a_single_logit_is_a_choice_between_two_classes():
    x, y = tiny_models.data(classes=2)
    models = tiny_models.teacher(classes=1), tiny_models.student(classes=1)
    for model in models:
        model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
    found = run(*models, (x, y[:, None]), class_names=["no", "yes"])
    z = keras.ops.convert_to_numpy(models[0](x))[:, 0]
    assert found.overall["teacher_accuracy"] == pytest.approx(((z > 0) == y).mean())
    assert found.overall["soft_label_correlation"] is None
    assert "–" in str(found)


@pytest.mark.single_backend
def test_one_of_several_outputs():
    x, y = tiny_models.data()
    models = [tiny_models.two_outputs("dict", seed=seed) for seed in (1, 4)]
    labels = {"label": y, "size": x[:, :1]}
    found = run(*models, (x, labels), output="label")
    z = keras.ops.convert_to_numpy(models[1](x)["label"])
    assert found.overall["student_accuracy"] == pytest.approx(
        (z.argmax(-1) == y).mean()
    )
    with pytest.raises(ValueError, match="several outputs"):
        run(*models, (x, labels))
    with pytest.raises(ValueError, match="labels of the output 'label'.*'size'"):
        run(*models, (x, {"size": x[:, :1]}), output="label")


@pytest.mark.single_backend
def test_the_teacher_may_have_inputs_of_its_own(pair, reference):
    teacher, student, x = pair
    shifted = keras.Sequential(
        [keras.Input(x.shape[1:]), layers.Rescaling(1, 1), teacher]
    )
    found = run(shifted, student, (x, LABELS), teacher_inputs=lambda x: x - 1)
    assert close(found, reference)


def test_it_can_be_written_as_json_and_drawn_from_it(reference):
    pytest.importorskip("matplotlib")
    values = json.loads(json.dumps(reference.to_dict()))
    assert values == reference.to_dict()
    assert len(plots.explanation(values).axes) == 4


@pytest.mark.single_backend
def test_verbose_prints_a_bar_and_the_tables(pair, capsys):
    teacher, student, x = pair
    found = explain(teacher, student, (x, LABELS))
    printed = capsys.readouterr().out
    assert "4/4" in printed and printed.endswith(f"{found}\n")
    explain(teacher, student, generate(x), verbose=1)
    assert "\n200 samples, 5 classes" in capsys.readouterr().out
    run(teacher, student, (x, LABELS))
    assert not capsys.readouterr().out


class Detector(keras.Sequential):
    prediction_decoder = None


def counting(*others):
    """A model whose layer counts how often it runs, and the counts."""
    layer = tiny_models.Counting()
    return keras.Sequential([keras.Input((6,)), layer, *others]), layer.counts


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
@pytest.mark.parametrize("case", ["labels", "detector", "temperature", "batches"])
def test_errors_before_any_model_runs(case):
    x, y = tiny_models.data()
    teacher, counts = counting(layers.Dense(4))
    student, other_counts = counting(layers.Dense(4))
    runs = counts["calls"], other_counts["calls"]
    data, options, message = (x, y), {}, ""
    if case == "labels":
        data, message = (x,), "data has none.*diagnose"
    elif case == "detector":
        student = Detector([keras.Input((6,)), layers.Dense(4)])
        message = "`Detector` is an object detector.*coco_ap"
    elif case == "temperature":
        options, message = {"temperature": 0}, "`explain`: `temperature`.*=0"
    else:
        options, message = {"batches": 0}, "`explain`: `batches`.*batches=0"
    with pytest.raises(ValueError, match=message):
        run(teacher, student, data, **options)
    assert (counts["calls"], other_counts["calls"]) == runs


def multilabel(classes):
    model = tiny_models.student("sigmoid", classes)
    model.compile("adam", "binary_crossentropy")
    return model


def regression():
    model = tiny_models.student()
    model.compile("adam", "mse")
    return model


X, Y = tiny_models.data()


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
@pytest.mark.parametrize(
    "build, data, options, message",
    [
        (lambda: tiny_models.student(classes=5), (X, Y), {}, "4 classes.*student 5"),
        (
            lambda: tiny_models.student(classes=1),
            (X, Y % 2),
            {},
            "4 classes.*student 1",
        ),
        (lambda: multilabel(4), (X, Y), {}, "is a label by itself.*keras.Model"),
        (regression, (X, Y * 1.0), {}, "compiled for a regression.*MeanSquaredError"),
        (tiny_models.student, (X, Y + 9), {}, "labels from 9 to 12"),
        (tiny_models.student, (X, np.array(list("abcd"))[Y]), {}, "are no numbers"),
        (tiny_models.student, (X, tiny_models.one_hot(Y, 7)), {}, "do not fit"),
        (tiny_models.student, (X, Y[:5]), {}, "5 labels"),
        (tiny_models.student, (X, Y, -np.ones(32)), {}, "a weight of -1"),
        (tiny_models.student, (X, 0 * Y - 1), {}, "no sample has both a label"),
        (tiny_models.student, iter([]), {}, "holds no batch"),
        (tiny_models.student, iter([(X, Y[:5])]), {}, "32 inputs and 5 labels"),
        (tiny_models.student, (X, Y), {"class_names": ["a"]}, "1 `class_names` and 4"),
        (tiny_models.student, (X, Y), {"from_logits": "no"}, "from_logits='no'"),
    ],
)
def test_what_cannot_be_explained_is_refused(build, data, options, message):
    teacher = tiny_models.teacher("sigmoid" if build is multilabel else None)
    with pytest.raises(ValueError, match=message):
        run(teacher, build(), data, **options)


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
def test_sequences_are_refused():
    x = np.ones((4, 5), "int32")
    with pytest.raises(ValueError, match="several choices for each sample.*diagnose"):
        run(tiny_models.sequence(1), tiny_models.sequence(2), (x, x % 3))


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
def test_a_label_out_of_range_is_refused_in_any_sample():
    models = tiny_models.teacher(), tiny_models.student()
    x, y = tiny_models.data(200)
    y[190] = 7
    with pytest.raises(ValueError, match="labels from 0 to 7"):
        run(*models, (x, y))
    batches = iter([(x[:100], y[:100]), (x[100:], y[100:])])
    with pytest.raises(ValueError, match="labels from 0 to 7"):
        run(*models, batches)


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
def test_data_without_end_needs_a_number_of_batches(pair):
    teacher, student, x = pair
    with pytest.raises(ValueError, match="no end.*batches=100"):
        run(teacher, student, Batches(x, None))
    assert run(teacher, student, Batches(x, None), batches=7).num_samples == 392


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
def test_what_is_no_model_is_refused():
    with pytest.raises(TypeError, match="student"):
        run(tiny_models.teacher(), "student", (X, Y))
