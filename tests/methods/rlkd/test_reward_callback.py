"""What the callback of a `Policy` measures."""

import math

import keras
import numpy as np
import pytest

from keras_dtkd import backend
from keras_dtkd.losses import DKD, KD
from keras_dtkd.methods.rlkd import Policy
from keras_dtkd.methods.rlkd.reward_callback import RewardCallback
from keras_dtkd.preparation.prepare import prepare_fit
from keras_dtkd.temperatures import Temperature, TemperaturePair
from tests import oracles
from tests.logit_cases import assert_close
from tests.methods.rlkd.test_policy import state
from tests.tiny_models import data, distiller, numbers, same, student, teacher

X, Y = data(44)
HELD = data(12, seed=5)


class Given(Temperature):
    """The temperatures that were assigned last."""

    def __init__(self, samples):
        super().__init__()
        self.values = self.add_weight(shape=(samples, 1), trainable=False)

    def call(self, student_logits, teacher_logits):
        t = keras.ops.convert_to_tensor(self.values)
        return TemperaturePair(t, t, t[..., 0] ** 2)


def reward_callbacks(callbacks):
    return [c for c in callbacks if isinstance(c, RewardCallback)]


def logits(model, x=X):
    return np.array(keras.ops.convert_to_numpy(model(x)), "float64")


def cross_entropy(model):
    log_p = np.log(oracles.softmax(logits(model, HELD[0])))
    return -log_p[np.arange(12), HELD[1]].mean()


@pytest.mark.parametrize("every", [1, 2])
def test_a_reward_is_of_the_updates_that_used_the_temperatures(every):
    policy = Policy(holdout=HELD, rollout=6, reward_every=every)
    taken = []
    policy.update = lambda groups, rewards: taken.extend(
        zip(groups, rewards, strict=True)
    )
    x, y = X[:24], Y[:24]
    optimizer = keras.optimizers.SGD(0.1, momentum=0.5)
    d = distiller(KD(policy), optimizer, teacher=teacher("softmax"))
    logs = d.fit(x, y, batch_size=4, shuffle=False, verbose=0).history
    assert len(taken) == 6 // every
    assert_close(logs["reward"], np.mean([reward for _, reward in taken]))

    rule = Given(4)
    optimizer = keras.optimizers.SGD(0.1, momentum=0.5)
    again = distiller(KD(rule), optimizer, teacher=teacher("softmax"))
    for i, (group, reward) in enumerate(taken):
        before = cross_entropy(again.student)
        for j in range(every):
            batch = slice(4 * (every * i + j), 4 * (every * i + j + 1))
            step = group[4 * j : 4 * j + 4].astype("float64")
            assert_close(step[:, 2:4], state(logits(again.student, x[batch])), 1e-4)
            rule.values.assign(1 + 9 / (1 + np.exp(-step[:, 4:])))
            again.train_on_batch(x[batch], y[batch])
        assert_close(reward, before - cross_entropy(again.student), 1e-5)
    assert max(abs(reward) for _, reward in taken) > 1e-3
    # Measuring left the student unchanged.
    assert_close(logits(d.student), logits(again.student))


@pytest.mark.invariant(number=8)
@pytest.mark.graph
def test_it_is_trained_in_plain_fit_and_a_loaded_run_resumes_bit_for_bit(tmp_path):
    def run(d, start, stop):
        options = {"shuffle": False, "verbose": 0, "batch_size": 8}
        options["validation_data"] = HELD
        return d.fit(X, Y, initial_epoch=start, epochs=stop, **options).history

    policies = [Policy(rollout=2, epochs=2, seed=seed) for seed in range(2)]
    losses = [KD(policies[0]), DKD(policies[1])]
    d = distiller(losses, "adam", evaluate_distillation=True)
    before = numbers(d)
    first = run(d, 0, 2)
    for name in ("reward", "dkd_reward"):
        assert np.isfinite(first[name]).all()
    # 40 samples in 5 batches: two rollouts an epoch, of three and of two updates.
    assert [policy.num_policy_updates for policy in policies] == [4, 4]
    for name in ("student_temperature", "dkd_teacher_temperature"):
        assert 1.0 < min(first[name]) and max(first[name]) < 10.0
        # Both have moved, and validation does not draw.
        assert first[f"val_{name}"][0] not in (5.5, first[name][0])
    assert not same(before, d)
    d.save(tmp_path / "d.keras")
    loaded = keras.models.load_model(tmp_path / "d.keras")
    loaded.teacher = teacher()
    assert same(d, loaded)
    assert run(d, 2, 3) == run(loaded, 2, 3)
    assert same(d, loaded)


@pytest.mark.single_backend
def test_validation_uses_the_mean_and_controls_are_not_trained():
    d = distiller(
        {mode: KD(Policy(mode=mode)) for mode in ("frozen", "shuffled", "constant")},
        evaluate_distillation=True,
    )
    logs = d.fit(X, Y, verbose=0, validation_data=HELD, epochs=2).history
    assert_close(logs["student_temperature"], 5.5)
    assert_close(logs["constant_student_temperature"], 5.5)
    assert abs(logs["shuffled_student_temperature"][0] - 5.5) > 1e-3
    assert_close(logs["val_shuffled_student_temperature"], 5.5)
    # One measure of the same updates.
    assert logs["reward"] == logs["shuffled_reward"] == logs["constant_reward"]
    for loss in d.distillation_losses.values():
        assert loss.temperature.num_policy_updates == 0


@pytest.mark.single_backend
def test_validation_does_not_cost_the_last_updates_of_an_epoch_their_reward():
    def run(validation):
        policy = Policy(holdout=HELD, rollout=4, reward_every=2, epochs=1)
        taken = []
        policy.update = lambda groups, rewards: taken.extend(
            zip(groups, rewards, strict=True)
        )
        # Five steps: the last group of an epoch is of one.
        options = {"batch_size": 8, "shuffle": False, "verbose": 0, "epochs": 2}
        d = distiller(KD(policy), evaluate_distillation=True)
        d.fit(X[:40], Y[:40], validation_data=validation, **options)
        return taken

    seen, unseen = run(HELD), run(None)
    assert [len(group) for group, _ in seen] == [16, 16, 8] * 2
    # Validation draws too, so that later epochs differ.
    for (group, reward), (other, expected) in zip(seen[:3], unseen[:3], strict=True):
        assert reward == expected and np.array_equal(group, other)


@pytest.mark.single_backend
def test_batches_outside_of_training_may_be_of_any_size():
    policy = Policy(holdout=HELD, rollout=2, epochs=1, capacity=8)
    d = distiller(KD(policy), evaluate_distillation=True)
    options = {"validation_data": (X, Y), "validation_batch_size": 16}
    d.fit(X, Y, batch_size=8, epochs=2, verbose=0, **options)
    assert policy.num_policy_updates > 0
    d.compute_losses(X, Y)
    with pytest.raises(ValueError, match="above capacity=8"):
        d.fit(X, Y, batch_size=16, verbose=0)


@pytest.mark.single_backend
def test_samples_of_weight_zero_do_not_train_the_policy():
    policy = Policy(holdout=HELD, rollout=2, epochs=1)
    d = distiller(KD(policy))
    d.fit(X[:40], Y[:40], sample_weight=np.zeros(40), verbose=0)
    assert policy.num_policy_updates == 0
    # Batches with weights of zero alone do not keep the others from counting.
    d.fit(X[:40], Y[:40], sample_weight=np.arange(40) < 8, shuffle=False, verbose=0)
    assert policy.num_policy_updates == 1


@pytest.mark.single_backend
def test_held_out_samples_are_not_trained_on():
    d = distiller(KD(Policy(holdout=0.25)))
    kwargs = {"sample_weight": np.arange(44.0)}
    x, y, callbacks = prepare_fit(d, X, Y, None, kwargs)
    (rewards,) = reward_callbacks(callbacks)
    held_x, held_y = rewards.holdout
    assert len(held_x) == 11 and len(x) == 33
    left = kwargs["sample_weight"].astype(int)
    assert np.array_equal(x, X[left]) and np.array_equal(y, Y[left])
    held = np.setdiff1d(np.arange(44), left)
    assert np.array_equal(held_x, X[held]) and np.array_equal(held_y, Y[held])
    # Without a policy all is as it was.
    x, y, callbacks = prepare_fit(distiller(), X, Y, None, {})
    assert x is X and y is Y and callbacks == []


@pytest.mark.single_backend
def test_a_validation_split_keeps_its_samples():
    kwargs = {"validation_split": 0.25, "sample_weight": np.arange(44.0)}
    d = distiller(KD(Policy(holdout=0.2)))
    x, _, callbacks = prepare_fit(d, X, Y, None, kwargs)
    (rewards,) = reward_callbacks(callbacks)
    # Of 44 samples Keras validates on the last 11; of the others a fifth is held out.
    left = kwargs["sample_weight"].astype(int)
    held = np.setdiff1d(np.arange(44), left)
    assert len(held) == 7 and held.max() < 33
    assert np.array_equal(rewards.holdout[0], X[held])
    border = math.floor(len(x) * (1.0 - kwargs["validation_split"]))
    assert np.array_equal(left[border:], np.arange(33, 44))
    with pytest.raises(ValueError, match="leaves 0 of 1 samples"):
        d = distiller(KD(Policy(holdout=0.9)))
        prepare_fit(d, X[:2], Y[:2], None, {"validation_split": 0.5})


@pytest.mark.single_backend
def test_batches_of_data_need_samples_to_measure_on():
    def batches():
        while True:
            yield X[:8], Y[:8]

    policy = Policy(rollout=2, epochs=1)
    d = distiller(KD(policy))
    with pytest.raises(ValueError, match=r"Policy\(holdout=\(x, y\)\)"):
        d.fit(batches(), steps_per_epoch=2, verbose=0)
    policy.holdout = HELD
    d.fit(batches(), steps_per_epoch=2, verbose=0)
    assert policy.num_policy_updates == 1


@pytest.mark.single_backend
def test_wrong_uses_are_refused_before_the_first_step():
    def refused(words, loss=None, x=X, y=Y, steps=1, **fit):
        small = student()
        before = numbers(small)
        d = distiller(KD(Policy()) if loss is None else loss, student=small)
        d.compile("sgd", d.loss, steps_per_execution=steps)
        with pytest.raises(ValueError, match=words):
            d.fit(x, y, verbose=0, **fit)
        assert same(before, small)

    shared = Policy()
    refused("the same policy", {"a": KD(shared), "b": KD(shared)})
    refused("no labels", y=None)
    refused("no labels", y=None, sample_weight=np.ones(44))
    refused("steps_per_execution=4", steps=4)
    refused("above capacity=8", KD(Policy(capacity=8)), batch_size=16)
    refused("leaves 0 of 1 samples to train on", x=X[:1], y=Y[:1])
    refused(r"holdout=0.98 leaves 1 of 44 samples", KD(Policy(holdout=0.98)))
    lost = Policy.from_config(Policy(holdout=HELD).get_config())
    refused("in no file", KD(lost))


@pytest.mark.single_backend
def test_several_devices_are_refused(monkeypatch):
    monkeypatch.setattr(backend, "replicas", lambda: 2)
    with pytest.raises(ValueError, match="one device"):
        prepare_fit(distiller(KD(Policy())), X, Y, None, {})


@pytest.mark.single_backend
def test_a_fit_that_breaks_off_leaves_a_policy_that_acts_by_its_mean():
    class Broken(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    policy = Policy(mode="shuffled")
    with pytest.raises(KeyboardInterrupt):
        distiller(KD(policy)).fit(X, Y, verbose=0, callbacks=[Broken()])
    logits = keras.ops.zeros((4, 3))
    assert_close(keras.ops.convert_to_numpy(policy(logits, logits).student), 5.5)
