"""Text in `fit`, `evaluate` and `predict`, by the student's KerasHub preprocessor."""

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller, diagnose, losses, rollouts
from tests.tiny_models import numbers

keras_hub = pytest.importorskip("keras_hub", reason="KerasHub is not installed")

TEXTS = ["the quick brown fox", "a lazy dog", "the dog", "the fox and the dog"] * 2
CHARACTERS = sorted(set("".join(TEXTS)))
WORDS = ["<|endoftext|>", *("Ġ" if c == " " else c for c in CHARACTERS), "th", "the"]
VOCABULARY = {word: token for token, word in enumerate(WORDS)}
OPTIONS = {"batch_size": 4, "shuffle": False, "verbose": 0}

# KerasHub's tokenizers do not run where TensorFlow's functions run eagerly.
pytestmark = pytest.mark.graph


def language_model(seed, width=8, vocabulary=VOCABULARY, size=None):
    """A GPT-2 of one layer, compiled with SGD."""
    keras.utils.set_random_seed(seed)
    tokenizer = keras_hub.tokenizers.GPT2Tokenizer(
        vocabulary=vocabulary, merges=["t h", "th e"]
    )
    model = keras_hub.models.GPT2CausalLM(
        backbone=keras_hub.models.GPT2Backbone(
            vocabulary_size=size or len(vocabulary),
            num_layers=1,
            num_heads=2,
            hidden_dim=width,
            intermediate_dim=2 * width,
            dropout=0.0,
            max_sequence_length=24,
        ),
        preprocessor=keras_hub.models.GPT2CausalLMPreprocessor(
            tokenizer, sequence_length=16
        ),
    )
    model.compile(keras.optimizers.SGD(0.1), "auto", sampler="greedy")
    return model


def distiller(**kwargs):
    loss = losses.KD(1.0, weight=kwargs.pop("weight", 1.0))
    return Distiller(language_model(0, 16), language_model(1), loss, **kwargs)


@pytest.mark.parametrize(
    "form",
    [
        "list",
        pytest.param("array", marks=pytest.mark.single_backend),
        pytest.param("batches", marks=pytest.mark.single_backend),
    ],
)
def test_text_trains_as_for_the_student_alone(form):
    alone, d = language_model(1), distiller(weight=0.0)
    expected = alone.fit(TEXTS, **OPTIONS).history
    if form == "batches":
        batches = iter([TEXTS[:4], TEXTS[4:]])
        logs = d.fit((np.array(b) for b in batches), verbose=0).history
    else:
        texts = TEXTS if form == "list" else np.array(TEXTS)
        logs = d.fit(texts, validation_data=(TEXTS,), **OPTIONS).history
        assert "val_loss" in logs
    assert logs["task_loss"] == pytest.approx(expected["loss"], rel=1e-5)
    for one, two in zip(numbers(alone), numbers(d.student), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


@pytest.mark.single_backend
def test_data_sets_of_strings_train():
    tf = pytest.importorskip("tensorflow", reason="tf.data reads the strings.")
    data = tf.data.Dataset.from_tensor_slices(TEXTS).batch(4)
    one, two = distiller(), distiller()
    one.fit(data, validation_data=data, verbose=0)
    two.fit(TEXTS, **OPTIONS)
    for a, b in zip(numbers(one.student), numbers(two.student), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.single_backend
def test_evaluate_and_predict_and_batches_take_text():
    d = distiller()
    d.fit(TEXTS, **OPTIONS)
    expected = d.student.evaluate(TEXTS, verbose=0)
    assert d.evaluate(TEXTS, verbose=0) == pytest.approx(expected, rel=1e-5)
    outputs = d.predict(TEXTS, verbose=0)
    np.testing.assert_allclose(outputs, d.student.predict(TEXTS, verbose=0), rtol=1e-5)
    logs = d.test_on_batch(TEXTS[:4], return_dict=True)
    assert logs["loss"] > 0
    assert d.train_on_batch(TEXTS[:4], return_dict=True)["task_loss"] > 0


@pytest.mark.single_backend
def test_texts_are_prompts_for_a_rollout():
    rollout = rollouts.Student(20, stop_token_ids=0, seed=0)
    d = distiller(rollout=rollout)
    logs = d.fit(["the", "a la"] * 4, **OPTIONS).history
    assert 0 < logs["generated_tokens"][0] <= 8 * 19


@pytest.mark.single_backend
def test_unlike_tokenizers_are_refused():
    other = {**VOCABULARY, "th": VOCABULARY["the"], "the": VOCABULARY["th"]}
    d = Distiller(language_model(0, vocabulary=other), language_model(1))
    with pytest.raises(ValueError, match="different tokenizers.*'the' and 'th'"):
        d.fit(TEXTS, **OPTIONS)


@pytest.mark.single_backend
def test_padded_vocabularies_are_cut_to_the_tokenizer():
    size = len(VOCABULARY)
    teacher = language_model(0, size=size + 7)
    student = language_model(1, size=size + 2)
    d = Distiller(teacher, student, losses.KD(1.0), task_weight=0.0)
    d.fit(TEXTS, **OPTIONS)
    student_spec, teacher_spec = d.output_specs.get()
    assert student_spec.shape[-1] == teacher_spec.shape[-1] == size
    x = student.preprocess_samples(TEXTS)[0]
    outputs = teacher(x, training=False)
    actual = keras.ops.convert_to_numpy(teacher_spec.select_logits(outputs))
    expected = keras.ops.convert_to_numpy(outputs)[..., :size]
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.single_backend
def test_validation_texts_and_diagnosed_ones_come_as_those_of_fit():
    texts, d = np.array(TEXTS), distiller()
    logs = d.fit(texts, validation_data=texts, **OPTIONS).history
    expected = d.evaluate(texts, batch_size=4, verbose=0, return_dict=True)
    assert logs["val_loss"] == pytest.approx([expected["loss"]], rel=1e-5)
    for data in (texts, TEXTS, (texts,)):
        report = diagnose(d.teacher, d.student, data, losses.KD(1.0), verbose=0)
        errors = {issue.code for issue in report.issues if issue.severity == "error"}
        # Its weights are random.
        assert errors <= {"chance_teacher"}
        assert report["student"]["accuracy"] >= 0


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
def test_text_without_a_preprocessor_is_one_error():
    small = language_model(1)
    small.preprocessor = None
    d = Distiller(language_model(0, 16), small, losses.KD(1.0))
    for texts in (TEXTS, np.array(TEXTS)):
        with pytest.raises(ValueError, match="the student has no preprocessor"):
            d.fit(texts, **OPTIONS)


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
def test_labels_beside_text_prompts_are_refused():
    d = distiller(rollout=rollouts.Student(20))
    for labels in (TEXTS, np.array(TEXTS)):
        with pytest.raises(ValueError, match="the rollout makes its own"):
            d.fit(TEXTS, labels, **OPTIONS)


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
@pytest.mark.parametrize("labels", [TEXTS, np.arange(8)])
def test_labels_beside_text_are_refused_and_not_dropped(labels):
    with pytest.raises(ValueError, match="preprocessor makes labels of the texts"):
        distiller().fit(TEXTS, labels, **OPTIONS)


@pytest.mark.single_backend
@pytest.mark.invariant(number=3)
def test_weights_of_texts_count():
    d = distiller()
    before = numbers(d.student)
    d.fit(TEXTS, sample_weight=np.zeros(8), **OPTIONS)
    assert all(map(np.array_equal, before, numbers(d.student)))
    assert d.evaluate(TEXTS, sample_weight=np.zeros(8), verbose=0)[0] == 0
    some = np.repeat([1.0, 0.0], 4)
    one, two = distiller(), distiller()
    one.fit(TEXTS, sample_weight=some, **OPTIONS)
    two.fit(((TEXTS[i : i + 4], None, some[i : i + 4]) for i in (0, 4)), verbose=0)
    pairs = zip(numbers(one.student), numbers(two.student), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)
    with pytest.raises(ValueError, match=r"weights of shape \(8, 3\) for 8 texts"):
        one.fit(TEXTS, sample_weight=np.ones((8, 3)), **OPTIONS)


@pytest.mark.single_backend
def test_batches_of_a_generator_may_be_text_alone():
    batches = [TEXTS[:4], TEXTS[4:]]
    expected = distiller().fit(TEXTS, **OPTIONS).history
    assert distiller().fit(((b,) for b in batches), verbose=0).history == expected
    outcomes = []
    for data in (TEXTS, iter(batches), ((b, None, np.ones(4)) for b in batches)):
        d = distiller(rollout=rollouts.Student(16, seed=0))
        options = OPTIONS if data is TEXTS else {"verbose": 0}
        outcomes.append(d.fit(data, **options).history["loss"])
    assert outcomes[0] == outcomes[1] == outcomes[2]


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
def test_text_in_a_pydataset_is_one_error():
    class Texts(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return (np.array(TEXTS[4 * index : 4 * index + 4]),)

    with pytest.raises(ValueError, match="a `PyDataset` gives text"):
        distiller().fit(Texts(), verbose=0)
