"""Rollouts inside of `fit`."""

import types

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller, losses, models, rollouts
from tests import language
from tests.language import LENGTH, VOCABULARY, language_model
from tests.selection import JIT_COMPILE
from tests.tensors import numpy
from tests.tiny_models import numbers

PROMPTS = language.make_prompts(batch=8, length=4)
OPTIONS = {"batch_size": 4, "shuffle": False, "verbose": 0}


def student(seed=4, loss=None):
    model = language_model(seed)
    model.compile(keras.optimizers.SGD(0.1), loss, jit_compile=JIT_COMPILE)
    return model


def distiller(rollout, **kwargs):
    return Distiller(
        language_model(0), student(), losses.KD(1.0), rollout=rollout, **kwargs
    )


@keras.saving.register_keras_serializable("tests")
class Recording(losses.KD):
    """Keeps the tokens of each batch, from outside of any trace."""

    def __init__(self, **kwargs):
        super().__init__(temperature=1.0, **kwargs)
        self.seen = self.add_weight(
            (2, 4, LENGTH - 1), "zeros", dtype="int32", trainable=False, name="seen"
        )

    def compute_with_temperatures(self, step):
        self.seen.assign(keras.ops.stack([self.seen[1], step.y]))
        return super().compute_with_temperatures(step)


def llama(seed):
    keras.utils.set_random_seed(seed)
    options = {"num_key_value_heads": 1, "vocabulary_size": VOCABULARY}
    model = models.llama_tiny(1, 8, 16, 2, **options)
    # Random ones are nearly uniform.
    embedding = model.backbone.token_embedding.embeddings
    embedding.assign(50 * numpy(embedding))
    model.compile(keras.optimizers.SGD(0.01), None, jit_compile=JIT_COMPILE)
    return model


ROLLOUTS = [
    rollouts.Data(LENGTH),
    rollouts.Student(LENGTH, seed=1),
    rollouts.Teacher(LENGTH, seed=1),
    rollouts.Mixed(LENGTH, ratio=0.5, seed=2),
    rollouts.Speculative(LENGTH, k=3, block=2, stop_token_ids=3, seed=1),
]


@pytest.mark.parametrize(
    ("rollout", "build"),
    [*((rollout, student) for rollout in ROLLOUTS), (ROLLOUTS[-1], llama)],
    ids=[*(type(rollout).__name__ for rollout in ROLLOUTS), "Speculative, cached"],
)
def test_a_rollout_in_fit_is_that_outside_and_has_no_gradient(rollout, build):
    teacher, one, other = build(0), build(4), build(4)
    responses = PROMPTS["padding_mask"] * (np.arange(4) > 0)
    prompts = {**PROMPTS, "response_mask": responses}
    # A model with a cache takes long to compile, and on PyTorch to run.
    count = 1 if build is llama else 2
    prompts = {name: part[: 4 * count] for name, part in prompts.items()}
    rollout.seed_generator.state.assign([1, 0])
    d = Distiller(teacher, one, Recording(), rollout=rollout, task_weight=0.0)
    d.fit(prompts, **OPTIONS)
    seen = numpy(d.distillation_losses["recording"].seen)[-count:]
    # The same by hand: tokens drawn outside, then a step on these as fixed data.
    rollout.seed_generator.state.assign([1, 0])
    plain = Distiller(teacher, other, losses.KD(1.0), task_weight=0.0)
    for batch in range(count):
        rows = slice(4 * batch, 4 * batch + 4)
        inputs = {name: part[rows] for name, part in prompts.items()}
        result = rollout.sample(other, teacher, inputs)
        tokens = result.token_ids
        assert (seen[batch] == tokens[:, 1:]).all()
        weights = result.generated[:, 1:].astype("float32")
        x, mask = tokens[:, :-1], result.padding_mask[:, :-1].astype("int32")
        x = {"token_ids": x, "padding_mask": mask} if build is llama else x
        plain.train_on_batch(x, tokens[:, 1:], sample_weight=weights)
    for one, two in zip(numbers(d.student), numbers(other), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


@pytest.mark.single_backend
def test_without_a_length_there_is_room_for_new_tokens(monkeypatch, tmp_path):
    monkeypatch.setattr("keras_dtkd.rollouts.base.NEW_TOKENS", 3)
    d = distiller(rollouts.Speculative(k=12, seed=0))
    logs = d.fit(PROMPTS, epochs=2, **OPTIONS).history
    assert d.rollout.max_length == 7
    missing = 7 - PROMPTS["padding_mask"].sum(1)
    assert logs["generated_tokens"] == [missing.sum()] * 2
    d.save(tmp_path / "d.keras")
    again = keras.saving.load_model(tmp_path / "d.keras")
    assert again.rollout.max_length == 7
    outside = rollouts.Student(seed=0)
    result = outside.sample(language_model(0), None, PROMPTS)
    assert result.token_ids.shape == (8, 7)
    d = distiller(rollouts.Data())
    d.fit({name: part[:4] for name, part in PROMPTS.items()}, **OPTIONS)
    assert d.rollout.max_length == 4
    hub = types.SimpleNamespace(preprocessor=types.SimpleNamespace(sequence_length=9))
    rollout = rollouts.Mixed()
    rollout.find_max_length(hub, 4)
    assert rollout.max_length == 9


def batches(size=4):
    for start in range(0, len(PROMPTS["token_ids"]), size):
        yield {name: part[start : start + size] for name, part in PROMPTS.items()}


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return (list(batches())[index],)


def tf_dataset():
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices(PROMPTS).batch(4)


@pytest.mark.single_backend
@pytest.mark.parametrize(
    "run",
    [
        lambda d: d.fit(Batches(), **{**OPTIONS, "batch_size": None}),
        lambda d: d.fit(((batch,) for batch in batches()), verbose=0, shuffle=False),
        lambda d: d.fit(tf_dataset(), verbose=0),
        lambda d: [d.train_on_batch(batch) for batch in batches()],
    ],
    ids=["PyDataset", "generator", "tf.data", "train_on_batch"],
)
def test_prompts_come_in_every_form_that_keras_takes(run):
    arrays, other = (distiller(rollouts.Student(LENGTH, seed=3)) for _ in range(2))
    arrays.fit(PROMPTS, **OPTIONS)
    run(other)
    for one, two in zip(numbers(arrays.student), numbers(other.student), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-6, atol=1e-7)


def test_validation_is_on_fixed_sequences():
    # Token ids alone, by another name than the prompts have.
    def build(seed):
        inputs = keras.Input((None,), dtype="int32", name="ids")
        return keras.Model(inputs, language_model(seed)(inputs))

    small = build(4)
    tokens = np.random.default_rng(1).integers(1, VOCABULARY, (8, LENGTH))
    held_out = tokens[:, :-1], tokens[:, 1:]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    small.compile(keras.optimizers.SGD(0.1), loss)
    d = Distiller(
        build(0),
        small,
        losses.KD(1.0),
        rollout=rollouts.Student(LENGTH, seed=0),
        evaluate_distillation=True,
    )
    logs = d.fit(PROMPTS, validation_data=held_out, **OPTIONS).history
    found = d.evaluate(*held_out, batch_size=4, verbose=0, return_dict=True)
    assert {"kd", "task_loss", "agreement", "loss"} <= set(found)
    for name, value in found.items():
        assert logs[f"val_{name}"] == pytest.approx([value], rel=1e-6), name


def test_what_is_logged_counts_the_generated_tokens():
    rollout = rollouts.Speculative(LENGTH, k=12, seed=0)
    d = distiller(rollout)
    logs = d.fit(PROMPTS, epochs=2, **OPTIONS).history
    missing = LENGTH - PROMPTS["padding_mask"].sum(1)
    assert logs["generated_tokens"] == [missing.sum()] * 2
    assert logs["generated_length"] == pytest.approx([missing.mean()] * 2)
    assert logs["acceptance"] == [1.0, 1.0]
    assert "task_loss" not in logs
    shares = rollout.acceptance_by_position
    assert (shares[: missing.max()] == 1).all()
    assert np.isnan(shares[missing.max() :]).all()
    assert min(logs["tokens_per_second"]) > 0


def test_the_tokens_of_a_teacher_are_labels_and_those_of_a_student_are_not():
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    models = language_model(0), student(loss=loss)
    d = Distiller(*models, losses.KD(1.0), rollout=rollouts.Teacher(LENGTH, seed=0))
    logs = d.fit(PROMPTS, **OPTIONS).history
    assert "task_loss" in logs
    sampled = losses.SampledReverseKL()
    d = Distiller(*models, sampled, rollout=rollouts.Student(LENGTH))
    logs = d.fit(PROMPTS, **OPTIONS).history
    assert {"sampled_reverse_kl"} < set(logs)
    assert "task_loss" not in logs


@pytest.mark.invariant(number=8)
def test_a_saved_run_goes_on_with_the_same_draws(tmp_path):
    def build():
        return distiller(rollouts.Speculative(LENGTH, k=4, seed=2))

    unbroken, half = build(), build()
    unbroken.fit(PROMPTS, epochs=2, **OPTIONS)
    half.fit(PROMPTS, epochs=1, **OPTIONS)
    half.save(tmp_path / "half.keras")
    again = keras.saving.load_model(tmp_path / "half.keras")
    again.teacher = language_model(0)
    again.fit(PROMPTS, epochs=2, initial_epoch=1, **OPTIONS)
    for one, two in zip(numbers(unbroken.student), numbers(again.student), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.single_backend
@pytest.mark.parametrize(
    ("prompts", "match"),
    [
        (PROMPTS["token_ids"], "no prompts"),
        ({"token_ids": PROMPTS["token_ids"]}, "Without padding all are 1"),
        ({**PROMPTS, "token_ids": PROMPTS["token_ids"] / 1.0}, "float64"),
        ({**PROMPTS, "padding_mask": PROMPTS["padding_mask"][:, ::-1]}, "on the right"),
        ({**PROMPTS, "padding_mask": 0 * PROMPTS["padding_mask"]}, "have no tokens"),
        (language.make_prompts(8, LENGTH + 1), "`max_length` is 10"),
    ],
)
def test_prompts_that_are_none_are_refused(prompts, match):
    with pytest.raises(ValueError, match=match):
        distiller(rollouts.Student(LENGTH)).fit(prompts, **OPTIONS)


@pytest.mark.single_backend
def test_a_class_in_place_of_a_rollout_is_named():
    with pytest.raises(TypeError, match="That is the class: call it"):
        distiller(rollouts.Student)


@pytest.mark.single_backend
def test_a_softmax_draws_no_tokens():
    model = language_model(0)
    soft = keras.Model(model.input, keras.layers.Softmax()(model.output))
    d = Distiller(soft, student(), losses.KD(1.0), rollout=rollouts.Teacher(LENGTH))
    with pytest.raises(ValueError, match="the teacher gives softmax.*leave out"):
        d.fit(PROMPTS, **OPTIONS)


@pytest.mark.single_backend
def test_labels_beside_prompts_are_refused():
    with pytest.raises(ValueError, match="makes its own"):
        distiller(rollouts.Student(LENGTH)).fit(PROMPTS, np.ones((8, 4)), **OPTIONS)


@pytest.mark.single_backend
def test_a_teacher_that_is_no_single_model_cannot_draw():
    teachers = [language_model(0), language_model(1)]
    d = Distiller(teachers, student(), rollout=rollouts.Teacher(LENGTH))
    with pytest.raises(ValueError, match="no single model"):
        d.fit(PROMPTS, **OPTIONS)
    # It may score what the student draws.
    d = Distiller(teachers, student(), rollout=rollouts.Student(LENGTH))
    assert d.fit(PROMPTS, **OPTIONS).history["generated_tokens"]


@pytest.mark.single_backend
def test_a_model_without_a_cache_is_slow_and_named():
    with pytest.warns(UserWarning, match="full forward pass"):
        distiller(rollouts.Student(LENGTH)).fit(PROMPTS, **OPTIONS)


@pytest.mark.single_backend
def test_statistics_follow_a_longer_rollout():
    d = distiller(rollouts.Student(6, seed=0))
    d.fit(PROMPTS, **OPTIONS)
    d.rollout.max_length = 9
    logs = d.fit(PROMPTS, **OPTIONS).history
    missing = 9 - PROMPTS["padding_mask"].sum(1)
    assert logs["generated_length"] == pytest.approx([missing.mean()])


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
def test_a_cache_that_gives_other_logits_is_refused():
    keras_hub = pytest.importorskip("keras_hub", reason="KerasHub is not installed")
    backbone = keras_hub.models.GPTNeoXBackbone(
        VOCABULARY, 1, 2, 8, 16, rotary_percentage=0.5
    )
    model = keras_hub.models.GPTNeoXCausalLM(backbone)
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        if "norm" not in variable.path:
            variable.assign(rng.normal(size=variable.shape))
    d = Distiller(llama(0), model, losses.KD(1.0), rollout=rollouts.Student(8))
    with pytest.raises(ValueError, match="the student has other logits with its cache"):
        d.fit(PROMPTS, **OPTIONS)
    plain = keras.Model(model.input, model.output)
    d = Distiller(llama(0), plain, losses.KD(1.0), rollout=rollouts.Student(8))
    with pytest.warns(UserWarning, match="no cache of keys and values in the student"):
        d.fit(PROMPTS, **OPTIONS)
