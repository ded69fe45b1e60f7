"""Rollouts give the tokens of the algorithm, one sequence and token at a time."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd import rollouts
from tests import language
from tests.language import LENGTH, VOCABULARY, as_tensors, language_model
from tests.tensors import numpy, tensor

STOP = 3


@pytest.fixture(scope="module")
def models():
    """Student and teacher, alike enough that some drafts are kept."""
    return language_model(0, takes_mask=True), language_model(0, scale=2.0)


def run(rollout, models, prompts=None, uniforms=None):
    prompts = language.make_prompts() if prompts is None else prompts
    uniforms = language.make_uniforms() if uniforms is None else uniforms
    return rollout(*models, as_tensors(prompts), tensor(uniforms))


def assert_equals_reference(result, models, rollout):
    prompts = language.make_prompts()
    sequences, kept = language.roll_out(
        *models, prompts, language.make_uniforms(), rollout
    )
    lengths = prompts["padding_mask"].sum(1)
    for row, (tokens, accepted) in enumerate(zip(sequences, kept, strict=True)):
        padded = tokens + [0] * (rollout.max_length - len(tokens))
        assert numpy(result.token_ids)[row].tolist() == padded
        generated = np.zeros(rollout.max_length, bool)
        generated[lengths[row] : len(tokens)] = True
        assert (numpy(result.generated)[row] == generated).all()
        assert (
            numpy(result.padding_mask)[row] == (np.arange(LENGTH) < len(tokens))
        ).all()
        if result.accepted is not None:
            assert numpy(result.accepted)[row][generated].tolist() == accepted


@pytest.mark.parametrize(
    "options",
    [
        {"k": 3},
        {"k": 3, "block": 4, "stop_token_ids": (STOP,)},
        {"k": 2, "block": 3, "student_temperature": 0.5, "teacher_temperature": 0.2},
        {"k": 4, "top_p": 0.8, "block": 20},
    ],
    ids=str,
)
def test_speculative_is_algorithm_1(models, options):
    rollout = rollouts.Speculative(LENGTH, **options)
    assert_equals_reference(run(rollout, models), models, rollout)


@pytest.mark.parametrize("k", [0, VOCABULARY])
def test_the_limits_of_k_are_one_model_alone(models, k):
    options = {"stop_token_ids": STOP, "student_temperature": 0.7}
    mixed = run(rollouts.Speculative(LENGTH, k=k, block=2, **options), models)
    alone = rollouts.Student if k else rollouts.Teacher
    alone = run(alone(LENGTH, **options), models)
    assert (numpy(mixed.token_ids) == numpy(alone.token_ids)).all()
    assert (numpy(mixed.generated) == numpy(alone.generated)).all()
    assert float(mixed.statistics["acceptance"]) == bool(k)


def test_every_kept_token_is_in_the_raw_top_k_of_the_teacher(models):
    k = 3
    rollout = rollouts.Speculative(LENGTH, k=k, teacher_temperature=0.1, top_p=0.5)
    result = run(rollout, models)
    _, teacher = models
    _, top = ops.top_k(teacher(result.token_ids), k)
    top, tokens = numpy(top)[:, :-1], numpy(result.token_ids)[:, 1:]
    in_top = (top == tokens[..., None]).any(-1)
    kept = numpy(result.accepted)[:, 1:] > 0
    assert kept.any()
    assert in_top[kept].all()


def test_top_p_keeps_what_is_in_the_nucleus(models):
    rollout = rollouts.Speculative(LENGTH, acceptance="top_p", top_p=0.6)
    result = run(rollout, models)
    outputs = numpy(models[1](result.token_ids))[:, :-1]
    probs = np.exp(outputs - outputs.max(-1, keepdims=True))
    probs /= probs.sum(-1, keepdims=True)
    tokens = numpy(result.token_ids)[:, 1:].astype(int)
    own = np.take_along_axis(probs, tokens[..., None], -1)
    before = np.where(probs > own, probs, 0.0).sum(-1)
    kept = numpy(result.accepted)[:, 1:] > 0
    assert kept.any()
    assert (before[kept] < 0.6).all()


def test_a_hyperparameter_changes_the_next_rollout(models):
    rollout = rollouts.Speculative(LENGTH, k=0)
    assert float(run(rollout, models).statistics["acceptance"]) == 0
    rollout.k = VOCABULARY
    assert float(run(rollout, models).statistics["acceptance"]) == 1


def test_data_gives_the_responses_of_the_data(models):
    prompts = language.make_prompts(length=6)
    mask = prompts["padding_mask"]
    responses = mask * (np.arange(6) >= 2)
    prompts["response_mask"] = responses
    result = run(rollouts.Data(LENGTH), models, prompts)
    tokens = np.pad(prompts["token_ids"], ((0, 0), (0, LENGTH - 6)))
    assert (numpy(result.token_ids) == tokens).all()
    assert (numpy(result.generated)[:, :6] == responses).all()
    assert not numpy(result.generated)[:, 6:].any()
    del prompts["response_mask"]
    result = run(rollouts.Data(LENGTH), models, prompts)
    assert (numpy(result.generated)[:, :6] == mask * (np.arange(6) > 0)).all()


def test_mixed_decides_once_a_batch(models):
    prompts = {**language.make_prompts(length=4)}
    prompts["response_mask"] = prompts["padding_mask"] * (np.arange(4) > 0)
    alone = {**prompts, "padding_mask": prompts["padding_mask"] * (np.arange(4) < 1)}
    del alone["response_mask"]
    uniforms = language.make_uniforms()
    uniforms[0] = 0.4
    for ratio, other, given in (
        (0.3, rollouts.Data, prompts),
        (0.5, rollouts.Student, alone),
    ):
        result = run(rollouts.Mixed(LENGTH, ratio=ratio), models, prompts, uniforms)
        expected = run(other(LENGTH), models, given, uniforms)
        assert (numpy(result.token_ids) == numpy(expected.token_ids)).all()
        assert (numpy(result.generated) == numpy(expected.generated)).all()
    mixed = rollouts.Mixed(LENGTH, ratio=0.3, otherwise="teacher")
    expected = run(rollouts.Teacher(LENGTH), models, alone, uniforms)
    result = run(mixed, models, prompts, uniforms)
    assert (numpy(result.token_ids) == numpy(expected.token_ids)).all()


def test_sample_is_the_rollout_of_each_batch(models):
    rollout = rollouts.Speculative(LENGTH, k=3, stop_token_ids=STOP, seed=4)
    prompts = language.make_prompts(batch=5)
    result = rollout.sample(*models, prompts, batch_size=3)
    again = rollouts.Speculative(LENGTH, k=3, stop_token_ids=STOP, seed=4)
    for rows in (slice(0, 3), slice(3, 5)):
        batch = {name: part[rows] for name, part in prompts.items()}
        uniforms = again.draw_uniforms(len(batch["token_ids"]))
        expected = run(again, models, batch, uniforms)
        assert (result.token_ids[rows] == numpy(expected.token_ids)).all()
        assert (result.accepted[rows] == numpy(expected.accepted)).all()
    share = result.accepted.sum() / result.generated.sum()
    assert result.statistics["acceptance"] == pytest.approx(share, rel=1e-5)


@pytest.mark.single_backend
@pytest.mark.invariant(number=10)
def test_sample_refuses_what_fit_refuses(models):
    prompts = language.make_prompts(batch=5)
    left = {name: part[:, ::-1] for name, part in prompts.items()}
    with pytest.raises(ValueError, match="not padded on the right"):
        rollouts.Student(LENGTH).sample(*models, left)
    with pytest.raises(ValueError, match="the data are no prompts"):
        rollouts.Student(LENGTH).sample(*models, {"token_ids": prompts["token_ids"]})


@pytest.mark.single_backend
def test_sample_draws_tokens_that_both_models_have(models):
    student, teacher = models
    few = keras.Model(teacher.input, teacher.output[..., :4])
    rollout = rollouts.Speculative(LENGTH, k=3, seed=4)
    result = rollout.sample(student, few, language.make_prompts(batch=5))
    assert result.token_ids[result.generated].max() < 4


def test_replicas_take_their_rows_of_the_same_draw():
    one, two = rollouts.Student(LENGTH, seed=5), rollouts.Student(LENGTH, seed=5)
    parts = []
    for replica in range(2):
        two.seed_generator.state.assign([5, 0])
        parts.append(numpy(two.draw_uniforms(3, replica, 2)))
    one.seed_generator.state.assign([5, 0])
    expected = numpy(one.draw_uniforms(6))
    assert (np.concatenate(parts, axis=1) == expected).all()


@pytest.mark.single_backend
@pytest.mark.parametrize(
    "build",
    [
        lambda: rollouts.Speculative(0),
        lambda: rollouts.Speculative(8, k=-1),
        lambda: rollouts.Speculative(8, block=0),
        lambda: rollouts.Speculative(8, acceptance="ratio"),
        lambda: rollouts.Speculative(8, acceptance="top_p"),
        lambda: rollouts.Student(8, top_p=0.0),
        lambda: rollouts.Student(8, top_p=1.5),
        lambda: rollouts.Student(8, student_temperature=-1.0),
        lambda: rollouts.Mixed(8, ratio=1.5),
        lambda: rollouts.Mixed(8, otherwise="student"),
    ],
)
def test_wrong_arguments_are_refused(build):
    with pytest.raises(ValueError, match="Received|Give"):
        build()


@pytest.mark.single_backend
@pytest.mark.parametrize(
    "rollout",
    [
        rollouts.Speculative(8, k=7, block=3, acceptance="top_p", top_p=0.5, seed=3),
        rollouts.Mixed(8, ratio=0.25, otherwise="teacher", stop_token_ids=[1, 2]),
        rollouts.Student(8, student_temperature=0.5),
    ],
    ids=lambda rollout: type(rollout).__name__,
)
def test_configuration_survives(rollout):
    config = keras.saving.serialize_keras_object(rollout)
    again = keras.saving.deserialize_keras_object(config)
    assert again.get_config() == rollout.get_config()
