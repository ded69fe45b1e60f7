"""RLKD's policy over temperatures: what it sees, draws, is paid for and learns."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_dtkd.losses import KD
from keras_dtkd.methods.rlkd import Policy
from keras_dtkd.methods.rlkd.ppo import (
    RewardModel,
    clipped_surrogate_loss,
    log_prob,
)
from tests import oracles
from tests.gradients import gradient, value_and_grad
from tests.logit_cases import CASE_NAMES, CASES, assert_close, draw
from tests.oracles_temperatures import kd_at


def state(logits):
    """Top probability and true margin."""
    p = np.sort(oracles.softmax(logits), axis=-1)
    return np.stack([p[..., -1], p[..., -1] - p[..., -2]], axis=-1)


def numpy(tensor):
    return np.array(ops.convert_to_numpy(tensor), "float64")


def tensors(*arrays):
    return [ops.convert_to_tensor(np.asarray(a, "float32")) for a in arrays]


def taught(seed=0, **arguments):
    """A policy whose mean depends on the state."""
    policy = Policy(**arguments)
    rng = np.random.default_rng(seed)
    for weight in policy._policy_weights[:4]:
        weight.assign(rng.normal(size=weight.shape))
    return policy


def mean_action(policy, states):
    kernel_1, bias_1, kernel_2, bias_2 = (numpy(w) for w in policy._policy_weights[:4])
    return (np.tanh(states @ kernel_1 + bias_1) @ kernel_2 + bias_2)[..., 0]


def temperature(action, low=1.0, high=10.0):
    return low + (high - low) / (1 + np.exp(-action))


def rollout(reward, seed=0, groups=16, rows=8):
    """States of two kinds, actions, and the sum of each group's rewards."""
    rng = np.random.default_rng(seed)
    top = rng.choice([0.5, 1.0], (groups, rows, 1))
    states = np.concatenate([top, top, 0.1 + 0 * top, 0 * top], -1)
    actions = rng.normal(size=(groups, rows, 1))
    rewards = reward(top[..., 0], actions[..., 0]).sum(-1)
    return list(np.concatenate([states, actions], -1).astype("float32")), rewards


@pytest.mark.invariant(number=6)
@pytest.mark.parametrize("name", CASE_NAMES)
def test_temperatures_lie_within_their_bounds_and_the_weight_is_the_square(name):
    case = CASES[name]
    policy = taught(min_temperature=2.0, max_temperature=5.0)
    policy.rollout_buffer.reset(True)
    t = policy(*tensors(case.student, case.teacher))
    assert t.student.shape == (*case.student.shape[:-1], 1)
    actual = numpy(t.student)
    assert np.array_equal(actual, numpy(t.teacher))
    assert np.isfinite(actual).all() and actual.min() >= 2.0 and actual.max() <= 5.0
    assert_close(numpy(t.weight), actual[..., 0] ** 2)


def test_state_is_top_probability_and_margin_of_both_models():
    case = draw((40, 10))
    policy = taught()
    t = policy(*tensors(case.student, case.teacher))
    assert policy.rollout_buffer.pop(0).size == 0
    states = np.concatenate([state(case.teacher), state(case.student)], -1)
    # Outside of `fit`: the mean.
    expected = temperature(mean_action(policy, states))
    assert_close(numpy(t.student)[:, 0], expected, 1e-4)
    policy.rollout_buffer.reset(True)
    t = policy(*tensors(case.student, case.teacher))
    kept = policy.rollout_buffer.pop(1)
    assert_close(kept[:, :4], states)
    assert_close(numpy(t.student)[:, 0], temperature(kept[:, 4].astype("float64")))


def test_actions_are_sampled_from_the_gaussian():
    case = draw((1000, 10))
    policy = taught(sigma=0.5)
    policy.rollout_buffer.reset(True)
    policy(*tensors(case.student, case.teacher))
    kept = policy.rollout_buffer.pop(1).astype("float64")
    z = (kept[:, 4] - mean_action(policy, kept[:, :4])) / 0.5
    assert abs(z.mean()) < 4 / np.sqrt(1000)
    assert abs(z.std() - 1.0) < 4 / np.sqrt(2000)
    # Another step, other draws.
    policy(*tensors(case.student, case.teacher))
    assert not np.array_equal(policy.rollout_buffer.pop(1)[:, 4], kept[:, 4])


def test_log_prob_is_the_density_of_the_action():
    a, mean, log_sigma = np.random.default_rng(0).normal(size=(3, 20))
    sigma = np.exp(log_sigma)
    density = np.exp(-((a - mean) ** 2) / (2 * sigma**2)) / sigma / np.sqrt(2 * np.pi)
    assert_close(numpy(log_prob(*tensors(a, mean, log_sigma))), np.log(density), 1e-4)


def test_objective_equals_ppos_equation_7():
    rng = np.random.default_rng(0)
    action, before, advantage, mean = rng.normal(size=(4, 200))
    log_sigma = np.full(200, -0.3)

    def oracle(mean):
        z = (action - mean) / np.exp(-0.3)
        ratio = np.exp(-(z**2) / 2 + 0.3 - 0.5 * np.log(2 * np.pi) - before)
        return -np.minimum(ratio * advantage, np.clip(ratio, 0.8, 1.2) * advantage)

    (true,) = tensors(np.stack([action, before, advantage], -1))
    (sigmas,) = tensors(log_sigma)
    values, gradients = value_and_grad(
        lambda m: clipped_surrogate_loss(0.2)(true, ops.stack([m, sigmas], axis=-1)),
        mean,
    )
    expected = oracle(mean)
    assert_close(values, expected, 1e-4, np.abs(expected))
    slopes = (oracle(mean + 1e-6) - oracle(mean - 1e-6)) / 2e-6
    assert (slopes == 0).any() and (slopes != 0).any()
    assert_close(gradients, slopes, 1e-3, np.abs(slopes))


def test_no_gradient_of_the_loss_reaches_or_passes_the_policy():
    case = draw((8, 10))
    policy = taught()
    assert policy.trainable_variables == []
    loss = KD(policy)
    (teacher,) = tensors(case.teacher)
    actual = gradient(lambda student: loss(student, teacher), case.student)
    tau = numpy(policy(*tensors(case.student, case.teacher)).student)
    expected = oracles.gradient(
        lambda student: kd_at(tau, student, case.teacher), case.student
    )
    assert_close(actual, expected, 1e-4)


def test_per_sample_rewards_sum_to_the_measured_reward():
    groups, rewards = rollout(lambda top, a: top * a + 3.0, groups=4)
    groups = np.stack([np.pad(g, ((0, 2), (0, 1)), constant_values=0) for g in groups])
    groups[:, :8, -1] = 1.0
    groups = np.pad(groups, ((0, 1), (0, 0), (0, 0)))
    rewards = np.append(rewards, 0.0)
    model = RewardModel(8, 0.02, 0)
    for epochs in (0, 20):
        model.train_on_rewards(groups, rewards, epochs)
        shares = model.per_sample_rewards(groups, rewards)
        assert np.allclose(shares.sum(-1), rewards)
        assert (shares[:, 8:] == 0).all() and (shares[4] == 0).all()
        # Before it has learned anything, all samples have earned the same.
        assert (np.ptp(shares[0, :8]) == 0) == (epochs == 0)


@pytest.mark.graph
def test_reward_model_recovers_each_samples_contribution():
    def reward(top, a):
        return np.where(top > 0.7, a, -a)

    model = RewardModel(64, 0.02, 0)
    for seed in range(4):
        groups, rewards = rollout(reward, seed, groups=64)
        groups = np.concatenate([groups, np.ones((64, 8, 1))], -1).astype("float32")
        model.train_on_rewards(groups, rewards, 50)
    shares = model.per_sample_rewards(groups, rewards).ravel()
    truth = reward(groups[..., 0], groups[..., 4]).ravel()
    assert np.corrcoef(shares, truth)[0, 1] > 0.8


@pytest.mark.graph
def test_policy_learns_the_best_temperature_of_each_state():
    policy = Policy(learning_rate=0.01)
    for seed in range(8):
        groups, rewards = rollout(
            lambda top, a: np.where(top > 0.7, a, -a), seed, groups=32
        )
        policy.update(groups, 1e-5 * rewards + 0.3)
    means = mean_action(policy, np.array([[1, 1, 0.1, 0], [0.5, 0.5, 0.1, 0]]))
    assert means[0] > 0.5 > -0.5 > means[1]
    assert policy.num_policy_updates == 8
    drawn = np.concatenate(groups)[:, 4]
    assert policy.mean_temperature == pytest.approx(temperature(drawn).mean(), 1e-4)
    # What acts is what was trained.
    states = np.random.default_rng(0).random((5, 4)).astype("float32")
    actor = numpy(policy._ppo.actor(ops.convert_to_tensor(states)))
    assert_close(mean_action(policy, states), actor[:, 0], 1e-4)
    assert_close(numpy(policy._policy_weights[4]), actor[0, 1], 1e-5)


def test_samples_of_weight_zero_are_not_recorded():
    case = draw((4, 10))
    policy = Policy(reward_every=2)
    policy.rollout_buffer.reset(True)
    policy(*tensors(case.student, case.teacher, [1, 0, 2, 0]))
    policy(*tensors(case.student[:3], case.teacher[:3]))
    kept = policy.rollout_buffer.pop(2)
    assert_close(kept[:, :2], state(case.teacher[[0, 2, 0, 1, 2]]))


def test_controls_have_the_same_temperatures_independent_of_the_state():
    case = draw((50, 10))
    policy = taught(sigma=0.5)
    policy._mean_temperature.assign(3.0)
    both = tensors(case.student, case.teacher)
    unshuffled = numpy(policy(*both).student)
    controls = {
        mode: policy.copy_with_mode(mode) for mode in ("frozen", "shuffled", "constant")
    }
    for control in controls.values():
        control.rollout_buffer.reset(control.is_sampling)
    drawn = {mode: numpy(rule(*both).student) for mode, rule in controls.items()}
    assert np.array_equal(drawn["frozen"], unshuffled)
    assert_close(drawn["constant"], 3.0)
    controls["shuffled"].rollout_buffer.reset(False)
    shuffled = numpy(controls["shuffled"](*both).student)
    assert_close(np.sort(shuffled[:, 0]), np.sort(unshuffled[:, 0]))
    assert not np.allclose(shuffled, unshuffled)
    assert not np.isin(drawn["shuffled"], unshuffled).any()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"min_temperature": 0.0}, "`min_temperature`"),
        ({"min_temperature": 10.0}, "`max_temperature`"),
        ({"max_temperature": float("inf")}, "`max_temperature`"),
        ({"sigma": 3.0}, "`sigma`"),
        ({"holdout": 1.0}, "`holdout`"),
        (
            {"holdout": (np.ones((3, 2)), np.ones(2))},
            "`Policy`: 3 held-out inputs and 2 held-out labels",
        ),
        ({"holdout": np.ones((3, 2))}, r"a ndarray. Give `holdout=\(x, y\)`.* share"),
        ({"holdout": (np.ones((3, 2)), None)}, r"a tuple. Give `holdout=\(x, y\)`"),
        (
            {"holdout": ([[1.0], [2.0]], [1, 0])},
            "`Policy`: the held-out inputs are a list of single",
        ),
        (
            {"holdout": (np.ones((0, 2)), np.ones(0))},
            "`Policy`: the held-out data holds no samples",
        ),
        ({"rollout": 0}, "`rollout`"),
        ({"reward_every": 3}, "must divide"),
        ({"clip": 1.0}, "`clip`"),
        ({"mode": "best"}, "must be one of 'learn'"),
    ],
)
def test_invalid_arguments_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        Policy(**arguments)


def test_a_batch_above_capacity_raises():
    case = draw((4, 10))
    policy = Policy(capacity=3)
    with pytest.raises(ValueError, match="capacity=3"):
        policy(*tensors(case.student, case.teacher))


def test_more_calls_than_steps_raise():
    case = draw((4, 10))
    policy = Policy()
    policy.rollout_buffer.reset(True)
    for _ in range(2):
        policy(*tensors(case.student, case.teacher))
    with pytest.raises(RuntimeError, match="called 2 times in 1 steps"):
        policy.rollout_buffer.pop(1)


def test_policy_is_rebuilt_from_its_config():
    policy = Policy(
        min_temperature=2.0, holdout=(np.ones((3, 2)), np.ones(3)), rollout=8
    )
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(policy)
    )
    assert again.get_config() == policy.get_config()
    assert again.holdout is None
    assert Policy.from_config(Policy().get_config()).holdout == 0.1


def test_training_is_float32_under_any_dtype_policy():
    def updated_policy():
        policy = Policy(epochs=2)
        random = np.random.default_rng(0)
        groups = list(random.uniform(size=(4, 8, 5)).astype("float32"))
        policy.update(groups, random.normal(size=4))
        return policy

    float32 = updated_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        float16 = updated_policy()
    finally:
        keras.config.set_dtype_policy("float32")
    for a, b in zip(float32.weights, float16.weights, strict=True):
        assert np.array_equal(*map(keras.ops.convert_to_numpy, (a, b))), a.path
