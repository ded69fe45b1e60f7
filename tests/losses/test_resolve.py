"""Losses get the names under which they are logged."""

import keras
import pytest

from keras_dtkd import Distiller
from keras_dtkd.losses import DTKD, KD, HardLabels
from keras_dtkd.losses.keras_adapter import KerasDistillationLoss
from keras_dtkd.losses.resolve import resolve_losses
from tests.tiny_models import student, teacher


def test_nothing_given_means_dtkd():
    losses = resolve_losses(None)
    assert list(losses) == ["dtkd"]
    assert type(losses["dtkd"]) is DTKD


def test_one_loss_has_its_own_name():
    loss = KD(name="soft")
    assert resolve_losses(loss) == {"soft": loss}


@pytest.mark.parametrize("kind", [list, tuple])
def test_several_losses_keep_their_order(kind):
    one, other = KD(), DTKD()
    losses = resolve_losses(kind([one, other]))
    assert list(losses.items()) == [("kd", one), ("dtkd", other)]


def test_a_dict_gives_the_names():
    one, other = KD(), KD()
    assert resolve_losses({"soft": one, "hard": other}) == {"soft": one, "hard": other}


@pytest.mark.parametrize(
    "names, logged",
    [
        (["kd", "kd", "kd"], ["kd", "kd_2", "kd_3"]),
        (["kd", "kd_2", "kd"], ["kd", "kd_2", "kd_3"]),
        (["kd_soft", "kd"], ["kd_soft", "kd"]),
        (["kd_2", "kd", "kd"], ["kd_2", "kd", "kd_3"]),
        (["a", "a_2", "a", "a_2"], ["a", "a_2", "a_3", "a_2_2"]),
    ],
)
def test_losses_of_one_name_are_numbered_and_none_is_lost(names, logged):
    given = [KD(name=name) for name in names]
    losses = resolve_losses(given)
    assert list(losses) == logged
    assert all(a is b for a, b in zip(losses.values(), given, strict=True))


def test_a_loss_of_keras_is_wrapped():
    loss = keras.distillation.LogitsDistillation()
    ((name, wrapped),) = resolve_losses(loss).items()
    assert name == "logits_distillation"
    assert type(wrapped) is KerasDistillationLoss and wrapped.loss is loss


@pytest.mark.parametrize("wrong", ["kd", 3, keras.losses.KLDivergence(), [KD(), None]])
def test_what_is_no_loss_is_refused(wrong):
    with pytest.raises(TypeError) as error:
        resolve_losses(wrong)
    found = wrong[-1] if isinstance(wrong, list) else wrong
    assert f"Received: {found!r}" in str(error.value)


@pytest.mark.parametrize("empty", [[], (), {}])
def test_no_loss_at_all_is_refused(empty):
    with pytest.raises(ValueError, match="`distillation_losses` is empty"):
        resolve_losses(empty)


@pytest.mark.parametrize(
    "name",
    [
        *("loss", "task_loss", "agreement", "learning_rate", "val_loss"),
        *("student_temperature", "teacher_temperature"),
    ],
)
def test_a_name_that_the_logs_need_is_refused(name):
    for losses in (KD(name=name), {name: KD()}):
        with pytest.raises(ValueError, match=f"may not be called '{name}'"):
            resolve_losses(losses)


def test_a_class_is_not_yet_a_loss():
    with pytest.raises(TypeError, match="That is the class: call it"):
        resolve_losses(KD)


def test_a_distillers_losses_are_known_by_name_and_by_place():
    d = Distiller(teacher(), student(), {"soft": KD(), "hard": HardLabels()})
    losses = d.distillation_losses
    assert losses[0] is losses["soft"] and losses[-1] is losses["hard"]
    assert list(losses) == ["soft", "hard"] and len(losses) == 2 and "soft" in losses
    assert {**losses} == dict(losses.items()) and "soft" in repr(losses)
    with pytest.raises(KeyError):
        losses["other"]
    with pytest.raises(IndexError):
        losses[2]
