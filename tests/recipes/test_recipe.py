"""Recipes as data: lookup, changes, scaling, JSON round trip, validation."""

import dataclasses
import json

import keras
import numpy as np
import pytest

from keras_dtkd import recipes
from keras_dtkd.recipes import Recipe, TorchSGD
from keras_dtkd.recipes.config import component


def learning_rates(recipe, steps):
    """The optimizer's learning rate in every step of a run."""
    schedule = recipe.build_optimizer(steps).get_config()["learning_rate"]
    schedule = keras.optimizers.schedules.deserialize(schedule)
    all_steps = range(steps * recipe.epochs)
    values = [keras.ops.convert_to_numpy(schedule(step)) for step in all_steps]
    return np.array(values)


def test_learning_rate_drops_at_the_first_step_of_a_milestone():
    recipe = recipes.get("kd")
    found = learning_rates(recipe, 3).reshape(240, 3)
    epoch = np.arange(1, 241)
    expected = 0.05 * 0.1 ** sum((epoch > m).astype(float) for m in (150, 180, 210))
    assert np.allclose(found, expected[:, None], rtol=1e-6)


def test_without_milestones_the_learning_rate_is_constant():
    recipe = dataclasses.replace(recipes.get("kd"), milestones=())
    assert float(recipe.build_optimizer(3).learning_rate) == pytest.approx(0.05)


def test_optimizer_has_the_hyperparameters_of_the_recipe():
    optimizer = recipes.get("kd", student="MobileNetV2").build_optimizer()
    assert type(optimizer) is TorchSGD
    config = optimizer.get_config()
    assert config["momentum"] == 0.9 and config["weight_decay"] == 5e-4
    schedule = config["learning_rate"]["config"]
    # 782 steps: the last batch of 16 is kept.
    assert schedule["boundaries"] == [150 * 782 - 1, 180 * 782 - 1, 210 * 782 - 1]
    assert np.allclose(schedule["values"], [1e-2, 1e-3, 1e-4, 1e-5])


@pytest.mark.parametrize("epochs", [12, 24, 60, 480])
def test_scaling_keeps_the_proportions(epochs):
    share = epochs / 240
    recipe = recipes.get("dkd").scaled_to(epochs)
    assert recipe.epochs == epochs
    before = [m - 1 for m in recipe.milestones]
    assert np.abs(np.array(before) - share * np.array([150, 180, 210])).max() <= 0.5
    (loss,) = recipe.build_losses().values()
    assert loss.warmup_epochs == pytest.approx(20 * share)
    assert recipe.learning_rate == 0.05 and recipe.batch_size == 64
    assert f"Scaled from 240 to {epochs} epochs" in recipe.source
    assert recipes.get("dkd").source in recipe.source


def test_scaling_by_an_integer_ratio_is_exact():
    assert recipes.get("kd").scaled_to(24).milestones == (16, 19, 22)


@pytest.mark.parametrize("epochs, expected", [(24, 1.0), (60, 2.5), (480, 20.0)])
def test_curriculum_is_scaled_to_at_least_one_epoch(epochs, expected):
    (loss,) = recipes.get("ctkd").scaled_to(epochs).build_losses().values()
    assert loss.temperature.epochs == expected
    (loss,) = recipes.get("ctkd").scaled_to(1).build_losses().values()
    assert loss.temperature.epochs == 1.0


def test_auto_warmup_is_not_scaled():
    recipe = recipes.get("dtkd")
    configs = recipe.to_dict()["distillation_losses"]
    configs["dtkd"]["arguments"]["warmup_epochs"] = "auto"
    recipe = dataclasses.replace(recipe, distillation_losses=configs).scaled_to(24)
    (loss,) = recipe.build_losses().values()
    assert loss.warmup_epochs == "auto"


@pytest.mark.parametrize("method", recipes.methods())
def test_scaling_to_the_same_epochs_is_the_identity(method):
    recipe = recipes.get(method)
    assert recipe.scaled_to(240) == recipe
    rescaled = recipe.scaled_to(24).scaled_to(240)
    assert dataclasses.replace(rescaled, source=recipe.source) == recipe


@pytest.mark.parametrize("epochs", range(1, 25))
def test_milestones_of_short_runs_are_ascending(epochs):
    milestones = recipes.get("kd").scaled_to(epochs).milestones
    assert len(milestones) == 3 and list(milestones) == sorted(milestones)
    assert milestones[0] >= 1
    found = learning_rates(recipes.get("kd").scaled_to(epochs), 2)
    assert (np.diff(found) <= 0).all() and found[0] == pytest.approx(0.05)


@pytest.mark.parametrize("epochs", [0, -1, 1.5, True, "24"])
def test_scaling_to_invalid_epochs_raises(epochs):
    with pytest.raises(ValueError, match="an integer of at least 1"):
        recipes.get("kd").scaled_to(epochs)


@pytest.mark.parametrize("method", recipes.methods())
def test_json_round_trip_gives_an_equal_recipe(method):
    recipe = recipes.get(method, "resnet32x4", "resnet8x4").scaled_to(24)
    data = recipe.to_dict()
    loaded = json.loads(json.dumps(data))
    assert loaded == data
    assert Recipe.from_dict(loaded) == recipe


def test_recipe_is_immutable():
    recipe = recipes.get("kd")
    recipe.to_dict()["distillation_losses"].clear()
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.epochs = 3
    assert recipe == recipes.get("kd")
    configs = recipe.to_dict()["distillation_losses"]
    other = dataclasses.replace(recipe, distillation_losses=configs)
    configs.clear()
    assert other == recipe


def test_replaced_values_are_kept():
    recipe = dataclasses.replace(recipes.get("kd"), learning_rate=0.1, batch_size=128)
    assert recipe.learning_rate == 0.1 and recipe.scaled_to(24).batch_size == 128
    schedule = recipe.build_optimizer().get_config()["learning_rate"]["config"]
    assert schedule["boundaries"][2] == 210 * 391 - 1


def test_network_names_are_accepted_in_the_spellings_of_papers():
    recipe = recipes.get("dkd", "WRN-40-2", "ShuffleNetV1")
    assert (recipe.teacher, recipe.student) == ("wrn_40_2", "shufflev1")
    assert recipes.get("kd", student="resnet20").teacher is None


def test_unknown_method_raises_with_the_list():
    with pytest.raises(ValueError) as error:
        recipes.get("dktd")
    assert "'dktd'" in str(error.value)
    for name in recipes.methods():
        assert name in str(error.value)


@pytest.mark.parametrize("method", ["ce", "kd", "dtkd", "dkd", "ls"])
def test_unknown_pair_raises_with_the_list(method):
    with pytest.raises(ValueError) as error:
        recipes.get(method, "resnet8", "resnet110")
    assert "resnet8 → resnet110" in str(error.value)
    for teacher, student in recipes.pairs():
        assert f"{teacher} → {student}" in str(error.value)


@pytest.mark.parametrize("method", ["dtkd", "ce_4kd", "dkd", "ls"])
def test_source_names_the_default_pair_for_an_unpublished_pair(method):
    default = "tuned to a pair are those of resnet32x4 → resnet8x4"
    assert default in recipes.get(method, student="resnet8").source
    assert default not in recipes.get(method, "resnet32x4", "resnet8x4").source
    assert default not in recipes.get("kd", student="resnet8").source


def test_other_data_has_the_same_numbers_and_a_note_in_source():
    recipe = recipes.get("kd", data="digits")
    assert "not for digits" in recipe.source and recipe.data == "digits"
    same = dataclasses.replace(recipe, data="cifar100", source="")
    assert same == dataclasses.replace(recipes.get("kd"), source="")
    with pytest.raises(ValueError, match="Give `steps_per_epoch=`"):
        recipe.build_optimizer()
    assert recipe.build_optimizer(23)


@pytest.mark.parametrize(
    "invalid, found",
    [
        ({"epochs": 0}, "epochs=0"),
        ({"batch_size": 1.5}, "batch_size=1.5"),
        ({"learning_rate": 0.0}, "learning_rate=0.0"),
        ({"lr_decay_factor": -1.0}, "lr_decay_factor=-1.0"),
        ({"momentum": float("nan")}, "momentum=nan"),
        ({"momentum": 1.5}, "momentum=1.5"),
        ({"weight_decay": "5e-4"}, "weight_decay='5e-4'"),
        ({"task_weight": -0.1}, "task_weight=-0.1"),
        ({"milestones": (181, 151)}, "milestones=(181, 151)"),
        ({"milestones": (0, 151)}, "milestones=0"),
        ({"distillation_losses": {"kd": "KD"}}, "'KD'"),
        ({"distillation_losses": {}}, "task_weight=0.1"),
        ({"pruning": {"rate": 0.1}}, "pruning={'rate': 0.1}"),
    ],
)
def test_invalid_values_raise(invalid, found):
    with pytest.raises(ValueError) as error:
        dataclasses.replace(recipes.get("kd"), **invalid)
    assert found in str(error.value)


def test_unknown_class_raises_with_the_list():
    recipe = recipes.get("kd")

    with pytest.raises(ValueError, match="'KDD' in `keras_dtkd.losses`.*DTKD.*KD"):
        dataclasses.replace(recipe, distillation_losses={"kd": component("KDD")})
    configs = {"kd": component("KD", temperature=component("Curiculum"))}
    with pytest.raises(ValueError, match="'Curiculum'.*Curriculum"):
        dataclasses.replace(recipe, distillation_losses=configs)
    with pytest.raises(ValueError, match="'Mixip' in `keras_dtkd.views`.*Mixup"):
        dataclasses.replace(recipe, views={"mixup": component("Mixip")})


def test_missing_and_unknown_fields_raise():
    data = recipes.get("kd").to_dict()
    with pytest.raises(TypeError, match="unexpected .* 'epoch'"):
        Recipe.from_dict({**data, "epoch": 240})
    del data["epochs"]
    with pytest.raises(TypeError, match="missing .* 'epochs'"):
        Recipe.from_dict(data)
