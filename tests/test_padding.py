"""Padding that the data names, by weights or a mask, counts in no check."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_dtkd
from keras_dtkd import Distiller
from keras_dtkd.losses import KD

pytestmark = pytest.mark.invariant(number=10)

CLASSES, PAD = 4, 0
RNG = np.random.default_rng(0)
LENGTHS = RNG.integers(2, 4, 64)
X = RNG.integers(1, CLASSES + 1, (64, 12))
WEIGHTS = (np.arange(12) < LENGTHS[:, None]).astype("float32")
X = np.where(WEIGHTS > 0, X, PAD)
# The label of a token is the token; that of padding is one the teacher does not give.
Y = np.where(WEIGHTS > 0, X - 1, 2)


def right_teacher(mask_zero=False):
    """Right on every token that is none of the padding."""
    table = np.vstack([[9.0, 0, 0, 0], 9.0 * np.eye(CLASSES)])
    embedding = keras.layers.Embedding(CLASSES + 1, CLASSES, mask_zero=mask_zero)
    model = keras.Sequential([keras.Input((None,), dtype="int32"), embedding])
    model.set_weights([table])
    return model


def pupil(mask_zero=False):
    return keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(CLASSES + 1, 8, mask_zero=mask_zero),
            keras.layers.Dense(CLASSES),
        ]
    )


def test_padding_without_a_name_makes_the_teacher_bad():
    with pytest.warns(UserWarning, match="no better than chance"):
        Distiller(right_teacher(), pupil(), KD()).fit(X, Y, verbose=0)


@pytest.mark.filterwarnings("error:.*chance")
@pytest.mark.parametrize("by", ["weights", "weights of batches", "mask"])
def test_a_teacher_that_is_right_on_every_token_is_no_chance_teacher(by):
    d = Distiller(right_teacher(by == "mask"), pupil(by == "mask"), KD())
    if by == "weights":
        d.fit(X, Y, sample_weight=WEIGHTS, verbose=0)
    elif by == "mask":
        d.fit(X, Y, verbose=0)
    else:
        d.fit(iter([(X[:32], Y[:32], WEIGHTS[:32])]), shuffle=False, verbose=0)


@pytest.mark.parametrize("by", ["weights", "mask"])
def test_diagnose_measures_real_tokens_alone(by):
    masked = by == "mask"
    data = (X, Y) if masked else (X, Y, WEIGHTS)
    report = keras_dtkd.diagnose(right_teacher(masked), pupil(masked), data, verbose=0)
    assert report["teacher"]["accuracy"] == 1.0
    codes = {issue.code for issue in report.issues}
    assert not codes & {"permuted_classes", "chance_teacher"}


class Language(keras.Model):
    """Takes what a model of KerasHub takes, and gives outputs without a mask."""

    def __init__(self):
        super().__init__()
        self.embedding = keras.layers.Embedding(CLASSES + 1, 8)
        self.head = keras.layers.Dense(CLASSES)

    def call(self, inputs):
        mask = ops.cast(inputs["padding_mask"], "float32")[..., None]
        return self.head(self.embedding(inputs["token_ids"]) * mask)


MASKED = {"token_ids": X, "padding_mask": WEIGHTS.astype("int32")}


@pytest.mark.parametrize(
    "run",
    [
        lambda d: d.fit(MASKED, Y, verbose=0),
        lambda d: d.fit(MASKED, verbose=0),
        lambda d: d.evaluate(MASKED, verbose=0),
        lambda d: d.fit(
            MASKED, Y, sample_weight=WEIGHTS, validation_data=(MASKED, Y), verbose=0
        ),
        lambda d: d.fit(
            MASKED, Y, sample_weight=WEIGHTS, validation_data=(MASKED,), verbose=0
        ),
    ],
    ids=["labels", "no labels", "evaluate", "validation", "validation, no labels"],
)
def test_a_padding_mask_that_nothing_uses_is_named(run):
    d = Distiller(Language(), Language(), KD(), evaluate_distillation=True)
    with pytest.warns(UserWarning, match="sample_weight=padding_mask"):
        run(d)


@pytest.mark.filterwarnings("error:.*padding_mask")
def test_a_padding_mask_beside_weights_is_no_fault():
    d = Distiller(Language(), Language(), KD(), evaluate_distillation=True)
    held_out = MASKED, Y, WEIGHTS
    d.fit(MASKED, Y, sample_weight=WEIGHTS, validation_data=held_out, verbose=0)
    d.evaluate(MASKED, Y, sample_weight=WEIGHTS, verbose=0)


@pytest.mark.parametrize(
    "loss", ["sparse_categorical_crossentropy", "mean", "weighted", None]
)
def test_a_compiled_loss_that_padding_dilutes_is_named(loss, recwarn):
    reduction = {"mean": "sum_over_batch_size", "weighted": "mean_with_sample_weight"}
    if loss in reduction:
        loss = keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction=reduction[loss]
        )
    student = pupil()
    if loss is not None:
        student.compile("sgd", loss)
    Distiller(right_teacher(), student, KD()).fit(
        X, Y, sample_weight=WEIGHTS, verbose=0
    )
    named = [w for w in recwarn if "divides by all of them" in str(w.message)]
    is_diluted = loss is not None and "weight" not in getattr(loss, "reduction", "")
    assert len(named) == is_diluted


@pytest.mark.filterwarnings("error:.*divides by all of them")
def test_a_diluted_loss_without_weight_is_no_fault():
    student = pupil()
    student.compile("sgd", "sparse_categorical_crossentropy")
    d = Distiller(right_teacher(), student, KD(), task_weight=0.0)
    d.fit(X, Y, sample_weight=WEIGHTS, verbose=0)


def test_accuracy_is_that_of_valid_tokens():
    found = []
    for extra in (0, X.shape[1]):
        x, y, weights = (np.pad(a, ((0, 0), (0, extra))) for a in (X, Y, WEIGHTS))
        keras.utils.set_random_seed(0)
        d = Distiller(right_teacher(), pupil(), KD())
        logs = d.fit(x, y, sample_weight=weights, shuffle=False, verbose=0).history
        found.append(logs["accuracy"])
    assert found[0] == pytest.approx(found[1])


def test_padding_to_twice_the_length_changes_no_weight():
    found = []
    for extra in (0, X.shape[1]):
        x, y, weights = (np.pad(a, ((0, 0), (0, extra))) for a in (X, Y, WEIGHTS))
        keras.utils.set_random_seed(0)
        d = Distiller(right_teacher(), pupil(), KD(), task_weight=0.5)
        loss = keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction="mean_with_sample_weight"
        )
        d.compile(keras.optimizers.SGD(0.1), loss)
        d.fit(x, y, sample_weight=weights, epochs=2, shuffle=False, verbose=0)
        found.append(d.student.get_weights())
    for one, two in zip(*found, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)


def test_accumulated_micro_batches_of_as_many_tokens_are_one_batch():
    """Keras takes the mean of the micro-batches' gradients, whatever they weigh."""
    rows = np.argsort(WEIGHTS.sum(1), kind="stable")[:8]
    weights = np.repeat(WEIGHTS[rows[:4]], 2, axis=0)
    found = []
    for size, steps in ((8, None), (4, 2)):
        keras.utils.set_random_seed(0)
        d = Distiller(right_teacher(), pupil(), KD(), task_weight=0.5)
        loss = keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction="mean_with_sample_weight"
        )
        optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=steps)
        d.compile(optimizer, loss)
        # Each half has one of each pair of equal length.
        order = [0, 2, 4, 6, 1, 3, 5, 7]
        options = {"sample_weight": weights[order], "batch_size": size}
        d.fit(X[:8], Y[:8], shuffle=False, verbose=0, **options)
        found.append(d.student.get_weights())
    for one, two in zip(*found, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)
