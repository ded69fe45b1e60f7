"""Language models as they are used: adapters, quantized teachers, half precision."""

import gc
import warnings

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller, callbacks, losses, rollouts
from tests import language
from tests.tiny_models import numbers

keras_hub = pytest.importorskip("keras_hub", reason="KerasHub is not installed")

# Keras names each layer that has nothing to quantize.
pytestmark = pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize`")
RNG = np.random.default_rng(0)
MASK = (np.arange(8) < RNG.integers(3, 9, (8, 1))).astype("int32")
TOKENS = (RNG.integers(3, language.VOCABULARY, (8, 8)) * MASK).astype("int32")
X = {"token_ids": TOKENS[:, :-1], "padding_mask": MASK[:, :-1]}
WEIGHTS = MASK[:, 1:].astype("float32")
PROMPTS = language.make_prompts(8, 3)


def language_model(seed, width=8, tied=True, dtype="float32"):
    """A Llama of one layer, whose logits are far from uniform."""
    keras.utils.set_random_seed(seed)
    backbone = keras_hub.models.LlamaBackbone(
        vocabulary_size=language.VOCABULARY,
        num_layers=1,
        num_query_heads=2,
        num_key_value_heads=1,
        hidden_dim=width,
        intermediate_dim=width,
        tie_word_embeddings=tied,
        dtype=dtype,
    )
    model = keras_hub.models.LlamaCausalLM(backbone)
    rng = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        if "norm" not in variable.path:
            variable.assign(rng.normal(size=variable.shape) / 2)
    return model


def fit(teacher, student, chunk_size=None, rolls_out=False, epochs=1, **adam):
    """All samples in one batch: what is logged first is of the untrained student."""
    rollout = rollouts.Speculative(6, k=3, seed=0) if rolls_out else None
    options = {"rollout": rollout, "chunk_size": chunk_size, "task_weight": 0.0}
    d = Distiller(teacher, student, losses.KD(1.0), **options)
    d.compile(keras.optimizers.Adam(0.1, **adam))
    data = {"x": PROMPTS} if rolls_out else {"x": X, "sample_weight": WEIGHTS}
    return d.fit(**data, batch_size=8, epochs=epochs, shuffle=False, verbose=0).history


def expected_divergence(teacher, student):
    """Mean of KL(teacher, student) over valid tokens, in float64."""
    outputs = (np.array(m.predict(X, verbose=0), "float64") for m in (teacher, student))
    log_p, log_q = (o - np.log(np.exp(o).sum(-1, keepdims=True)) for o in outputs)
    divergences = (np.exp(log_p) * (log_p - log_q)).sum(-1)
    return (divergences * WEIGHTS).sum() / WEIGHTS.sum()


def enable_lora(student):
    student.backbone.enable_lora(2)
    return student


# Of a LoRA student most weights are frozen, and meant to be.
@pytest.mark.filterwarnings("ignore:.*the others are frozen")
@pytest.mark.parametrize(
    ("chunk_size", "rolls_out", "dtype"),
    [
        # All at once on each backend, and each by itself on one.
        (5, True, "bfloat16"),
        pytest.param(None, False, "float32", marks=pytest.mark.single_backend),
        pytest.param(5, False, "float32", marks=pytest.mark.single_backend),
        pytest.param(None, True, "float32", marks=pytest.mark.single_backend),
    ],
)
def test_of_a_student_with_lora_the_adapters_alone_are_trained(
    chunk_size, rolls_out, dtype
):
    student = enable_lora(language_model(1, dtype=dtype))
    before = numbers(student)
    teacher = language_model(0, 16, dtype=dtype)
    logs = fit(teacher, student, chunk_size, rolls_out, epochs=3)
    values = zip(student.variables, before, numbers(student), strict=True)
    changed = {v.path for v, old, new in values if (old != new).any()}
    assert changed == {v.path for v in student.variables if "lora" in v.path}
    assert len(changed) == 4
    assert np.isfinite(logs["kd"]).all()
    # A rollout's tokens are others in each epoch.
    assert rolls_out or logs["kd"][-1] < 0.95 * logs["kd"][0]


@pytest.mark.filterwarnings("ignore:.*the others are frozen")
@pytest.mark.single_backend
@pytest.mark.invariant(number=8)
def test_a_run_with_lora_goes_on_where_it_was(tmp_path):
    def train(epochs, folder):
        resume = callbacks.Resume(folder)
        student = enable_lora(language_model(1, dtype="bfloat16"))
        d = Distiller(language_model(0, 16), student, losses.KD(1.0))
        d.compile(keras.optimizers.Adam(0.1))
        options = {"initial_epoch": resume.epoch, "callbacks": [resume], "verbose": 0}
        d.fit(X, sample_weight=WEIGHTS, epochs=epochs, shuffle=False, **options)
        return d

    unbroken = train(3, tmp_path / "one")
    train(1, tmp_path / "two")
    again = train(3, tmp_path / "two")
    for one, two in zip(numbers(unbroken), numbers(again), strict=True):
        np.testing.assert_array_equal(one, two)


def quantize(model, mode="int8"):
    # Keras searches for garbage after each weight: not among all that there is.
    gc.freeze()
    model.quantize(mode)


@pytest.mark.single_backend
@pytest.mark.parametrize(("tied", "chunk_size"), [(True, None), (True, 5), (False, 5)])
def test_an_int8_teacher_teaches_its_quantized_outputs(tied, chunk_size):
    teacher, student = language_model(0, 16, tied), language_model(1)
    # Beside large numbers, small ones are rounded coarsely.
    table = teacher.backbone.token_embedding.embeddings
    table.assign(table * np.where(np.arange(16) == 3, 20.0, 1.0))
    in_float32 = expected_divergence(teacher, student)
    quantize(teacher)
    expected = expected_divergence(teacher, student)
    before, start = numbers(teacher), numbers(student)
    logs = fit(teacher, student, chunk_size)
    assert logs["kd"] == pytest.approx([expected], rel=1e-4)
    assert abs(expected - in_float32) > 1e-3 * in_float32
    for one, two in zip(before, numbers(teacher), strict=True):
        np.testing.assert_array_equal(one, two)
    for one, two in zip(start, numbers(student), strict=True):
        assert (one != two).any()


@pytest.mark.single_backend
def test_an_int8_teacher_corrects_drafts():
    teacher = language_model(0, 16)
    quantize(teacher)
    plain, chunked = (
        fit(teacher, language_model(1), chunk_size, rolls_out=True)
        for chunk_size in (None, 5)
    )
    assert 0 < plain["acceptance"][0] < 1
    assert chunked["acceptance"] == plain["acceptance"]
    assert chunked["kd"] == pytest.approx(plain["kd"], rel=1e-4)


@pytest.mark.single_backend
@pytest.mark.parametrize(("role", "mode"), [("teacher", "int4"), ("student", "int8")])
def test_chunks_of_other_quantized_heads_are_refused(role, mode):
    models = {"teacher": language_model(0, 16, False), "student": language_model(1)}
    quantize(models[role], mode)
    enable_lora(models["student"])
    with pytest.raises(ValueError, match=f"the {role}'s logits cannot be computed a"):
        fit(**models, chunk_size=5)


# Weights of the student in float32, and the teacher as small as it gets.
def test_an_int8_teacher_in_half_precision_teaches_a_student_in_mixed_precision():
    teacher = language_model(0, 16, dtype="bfloat16")
    quantize(teacher)
    student = language_model(1, dtype="mixed_bfloat16")
    expected = expected_divergence(teacher, student)
    logs = fit(teacher, student, chunk_size=5, epochs=3)
    assert logs["kd"][0] == pytest.approx(expected, rel=0.02)
    assert logs["kd"][-1] < 0.8 * logs["kd"][0]


@pytest.mark.single_backend
@pytest.mark.parametrize("dtype", ["bfloat16", "mixed_bfloat16"])
@pytest.mark.parametrize("chunk_size", [None, 5])
@pytest.mark.parametrize("rolls_out", [False, True])
def test_losses_in_half_precision_are_those_in_float32(dtype, chunk_size, rolls_out):
    expected, found = (
        fit(
            language_model(0, 16, dtype=name),
            language_model(1, dtype=name),
            chunk_size,
            rolls_out,
            epochs=3,
            beta_2=0.95,
        )["kd"]
        for name in ("float32", dtype)
    )
    # Other weights draw other tokens: the first are those of equal weights.
    count = 1 if rolls_out else 3
    assert found[:count] == pytest.approx(expected[:count], rel=0.05)
    assert np.isfinite(found).all() and len(set(found)) == 3


@pytest.mark.single_backend
@pytest.mark.parametrize("name", ["AdamW", "Lamb"])
def test_steps_that_half_precision_makes_0_are_refused(name):
    student = language_model(1, dtype="bfloat16")
    student.compile(getattr(keras.optimizers, name)(0.03), None)
    d = Distiller(language_model(0, 16), student, losses.KD(1.0))
    with pytest.raises(ValueError, match="11 of the student's 11 .* bfloat16, in"):
        d.fit(X, verbose=0)
    # What the error is for.
    before = numbers(student)
    student.optimizer.apply(
        [keras.ops.ones_like(v) for v in student.trainable_variables],
        student.trainable_variables,
    )
    for one, two in zip(before, numbers(student), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.single_backend
def test_marks_of_responses_are_no_input_of_the_student():
    student = language_model(1)
    student.compile("sgd", loss=None, weighted_metrics=None)
    models = language_model(0), student
    d = Distiller(*models, losses.KD(1.0), rollout=rollouts.Data(8))
    prompts = {"token_ids": TOKENS, "padding_mask": MASK}
    prompts["response_mask"] = MASK * (np.arange(8) > 1)
    with warnings.catch_warnings():
        # Keras's, of inputs that a model does not have.
        warnings.filterwarnings("error", message=".*structure of `inputs`")
        logs = d.fit(prompts, verbose=0).history
    assert logs["generated_tokens"] == [prompts["response_mask"].sum()]


def test_the_optimizer_chosen_for_bfloat16_changes_weights():
    def build(seed):
        keras.utils.set_random_seed(seed)
        dtype = {"dtype": "bfloat16"}
        layers = keras.layers.Embedding(9, 4, **dtype), keras.layers.Dense(9, **dtype)
        return keras.Sequential([keras.Input((None,), dtype="int32"), *layers])

    student, tokens = build(1), np.arange(24).reshape(4, 6) % 9
    before = numbers(student)
    Distiller(build(0), student, losses.KD(1.0)).fit(tokens, tokens, verbose=0)
    for one, two in zip(before, numbers(student), strict=True):
        assert (one != two).any()


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
@pytest.mark.filterwarnings("ignore:.*the others are frozen")
def test_adapters_that_a_file_left_at_0_are_refused(tmp_path):
    student = enable_lora(language_model(1))
    student.save_weights(tmp_path / "s.weights.h5")
    student.load_weights(tmp_path / "s.weights.h5")
    with pytest.raises(ValueError, match="adapters of 2 layers.*are all 0"):
        fit(language_model(0, 16), student)
