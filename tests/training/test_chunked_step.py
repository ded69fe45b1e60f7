"""Losses from hidden states, a part of the tokens at a time, are those from logits."""

import keras
import numpy as np
import pytest

from keras_dtkd import Distiller, losses, models, rollouts
from keras_dtkd.temperatures import Dynamic
from tests import language
from tests.selection import JIT_COMPILE
from tests.tiny_models import numbers

pytest.importorskip("keras_hub", reason="KerasHub is not installed")

RNG = np.random.default_rng(0)
MASK = (np.arange(8) < RNG.integers(3, 9, (8, 1))).astype("int32")
TOKENS = (RNG.integers(3, 20, (8, 8)) * MASK).astype("int32")
X = {"token_ids": TOKENS[:, :-1], "padding_mask": MASK[:, :-1]}
Y, WEIGHTS = TOKENS[:, 1:], MASK[:, 1:].astype("float32")
OPTIONS = {"batch_size": 3, "shuffle": False, "verbose": 0}


def language_model(seed, width=8, tied=True, size=20):
    keras.utils.set_random_seed(seed)
    return models.llama_tiny(1, width, 2 * width, 2, 1, size, tied)


def distiller(loss, chunk_size, tied=True, task=None, **kwargs):
    student = language_model(1, tied=tied)
    d = Distiller(
        language_model(0, 16, not tied), student, loss, chunk_size=chunk_size, **kwargs
    )
    d.compile(keras.optimizers.SGD(0.5), task, jit_compile=JIT_COMPILE)
    return d


def assert_same(one, two):
    for a, b in zip(numbers(one.student), numbers(two.student), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def cross_entropy(**kwargs):
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True, **kwargs)


@pytest.mark.parametrize(
    ("loss", "tied", "task"),
    [
        (lambda: losses.KD(2.0), True, cross_entropy()),
        (
            lambda: losses.GeneralizedJSD(0.3, convention="continuous"),
            False,
            cross_entropy(reduction="mean_with_sample_weight"),
        ),
    ],
)
def test_weights_and_logs_are_those_of_the_plain_form(loss, tied, task):
    found = []
    # Five tokens at a time: the last chunk is not full, the last batch is short.
    for chunk_size in (None, 5):
        d = distiller(loss(), chunk_size, tied, task, task_weight=0.5)
        data = X, Y, WEIGHTS
        logs = d.fit(
            X, Y, sample_weight=WEIGHTS, epochs=2, validation_data=data, **OPTIONS
        ).history
        found.append((d, logs))
    (plain, expected), (chunked, logs) = found
    assert_same(plain, chunked)
    assert set(expected) - set(logs) == {"agreement"}
    for name, values in logs.items():
        assert values == pytest.approx(expected[name], rel=1e-5), name


@pytest.mark.single_backend
def test_the_default_task_loss_is_that_of_the_plain_form():
    found = []
    for chunk_size in (None, 5):
        student = language_model(1)
        # KerasHub compiles its models itself.
        student.compiled = False
        d = Distiller(language_model(0), student, losses.KD(1.0), chunk_size=chunk_size)
        found.append(d.fit(X, Y, sample_weight=WEIGHTS, **OPTIONS).history)
        assert d.compile_origin.source == "default"
    assert found[1]["task_loss"] == pytest.approx(found[0]["task_loss"], rel=1e-5)


@pytest.mark.skipif(keras.config.backend() != "jax", reason="Others have no constants.")
def test_the_embedding_of_the_teacher_is_no_constant_of_the_compiled_step():
    d = distiller(losses.KD(1.0), 5)
    d.compile(keras.optimizers.SGD(0.0))
    table = d.teacher.backbone.token_embedding.reverse_embeddings
    plain = table.numpy()
    found = []
    for value in (plain, plain + (np.arange(20) == 3), plain):
        table.assign(value)
        found.append(d.train_on_batch(X, return_dict=True)["kd"])
    assert found[1] > 1.5 * found[0]
    assert found[2] == pytest.approx(found[0])


@pytest.mark.single_backend
def test_a_temperature_may_change_and_weights_of_samples_count():
    found = []
    for chunk_size in (None, 4):
        d = distiller(losses.KD(2.0, "reverse_kl"), chunk_size)
        d.fit(X, **OPTIONS)
        d.distillation_losses["kd"].temperature = 1.0
        d.fit(X, sample_weight=np.arange(8.0), **OPTIONS)
        found.append(d)
    assert_same(*found)


def test_prompts_are_rolled_out_as_without():
    prompts, found = language.make_prompts(6, 3), []
    for chunk_size in (None, 4):
        rollout = rollouts.Speculative(6, k=3, seed=0)
        d = distiller(losses.KD(1.0), chunk_size, rollout=rollout)
        logs = d.fit(prompts, **OPTIONS).history
        found.append((d, logs["generated_tokens"], logs["acceptance"]))
    assert found[0][1:] == found[1][1:]
    assert_same(found[0][0], found[1][0])


@pytest.mark.single_backend
@pytest.mark.parametrize(
    ("loss", "task", "match"),
    [
        (losses.KD(temperature=Dynamic()), None, "`kd` needs all logits"),
        (losses.LogitMSE(), None, "`logit_mse` needs all logits"),
        (losses.KD(1.0), cross_entropy(reduction="sum"), "task loss needs all logits"),
    ],
)
def test_losses_that_need_all_logits_are_refused(loss, task, match):
    d = distiller(loss, 4, task=task)
    with pytest.raises(ValueError, match=match):
        d.fit(X, None if task is None else Y, **OPTIONS)


@pytest.mark.single_backend
def test_models_without_such_a_head_are_refused():
    student = language.language_model(0, takes_mask=True)
    d = Distiller(language_model(0), student, losses.KD(1.0), chunk_size=4)
    with pytest.raises(ValueError, match="student's logits cannot be computed a part"):
        d.fit(X, **OPTIONS)


@pytest.mark.single_backend
@pytest.mark.parametrize("cap", [0.01, 30.0])
def test_a_head_that_does_more_is_refused(cap):
    # The larger one hardly changes the logits of a student that begins.
    teacher = language_model(0, 16)
    teacher.backbone.token_embedding.logit_soft_cap = cap
    d = Distiller(teacher, language_model(1), losses.KD(1.0), chunk_size=4)
    with pytest.raises(ValueError, match="teacher's logits cannot be computed a part"):
        d.fit(X, **OPTIONS)


@pytest.mark.single_backend
def test_an_evaluation_is_checked_as_a_fit_is():
    d = distiller(losses.DTKD(), 4, evaluate_distillation=True)
    with pytest.raises(ValueError, match="`dtkd` needs all logits"):
        d.evaluate(X, Y, verbose=0)
    with pytest.raises(ValueError, match="compute_losses` needs all logits"):
        distiller(losses.KD(1.0), 4).compute_losses(X, Y)


@pytest.mark.single_backend
def test_compiled_loss_weights_are_refused():
    d = distiller(losses.KD(1.0), 4)
    d.compile("sgd", cross_entropy(), loss_weights=0.1)
    with pytest.raises(ValueError, match="`loss_weights` are compiled"):
        d.fit(X, Y, **OPTIONS)


@pytest.mark.single_backend
def test_the_argument_survives_saving(tmp_path):
    d = distiller(losses.KD(1.0), 4, tied=False)
    d.fit(X, **OPTIONS)
    d.save(tmp_path / "d.keras")
    assert keras.saving.load_model(tmp_path / "d.keras").chunk_size == 4
    with pytest.raises(ValueError, match="chunk_size=0"):
        distiller(losses.KD(1.0), 0)
