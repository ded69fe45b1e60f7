"""A recipe as data: looked up, changed, scaled, written and read."""

import dataclasses
import json

import keras
import numpy as np
import pytest

from keras_dtkd import recipes
from keras_dtkd.recipes import Recipe, TorchSGD


def rates(recipe, steps):
    """The learning rate of every step of a run, as the optimizer would have it."""
    schedule = recipe.optimizer(steps).get_config()["learning_rate"]
    schedule = keras.optimizers.schedules.deserialize(schedule)
    every = range(steps * recipe.epochs)
    return np.array([keras.ops.convert_to_numpy(schedule(step)) for step in every])


def test_the_rate_falls_with_the_first_step_of_a_milestone():
    recipe = recipes.get("kd")
    found = rates(recipe, 3).reshape(240, 3)
    epoch = np.arange(1, 241)
    expected = 0.05 * 0.1 ** sum((epoch > m).astype(float) for m in (150, 180, 210))
    assert np.allclose(found, expected[:, None], rtol=1e-6)


def test_without_milestones_the_rate_stays():
    recipe = dataclasses.replace(recipes.get("kd"), milestones=())
    assert float(recipe.optimizer(3).learning_rate) == pytest.approx(0.05)


def test_the_optimizer_has_the_recipe_s_numbers():
    optimizer = recipes.get("kd", student="MobileNetV2").optimizer()
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
    recipe = recipes.get("dkd").scaled(epochs)
    assert recipe.epochs == epochs
    before = [m - 1 for m in recipe.milestones]
    assert np.abs(np.array(before) - share * np.array([150, 180, 210])).max() <= 0.5
    (loss,) = recipe.losses().values()
    assert loss.warmup_epochs == pytest.approx(20 * share)
    assert recipe.learning_rate == 0.05 and recipe.batch_size == 64
    assert f"Scaled from 240 to {epochs} epochs" in recipe.source
    assert recipes.get("dkd").source in recipe.source


def test_scaling_by_a_whole_number_is_exact():
    assert recipes.get("kd").scaled(24).milestones == (16, 19, 22)


@pytest.mark.parametrize("epochs, expected", [(24, 1.0), (60, 2.5), (480, 20.0)])
def test_a_curriculum_is_scaled_and_lasts_an_epoch_at_least(epochs, expected):
    (loss,) = recipes.get("ctkd").scaled(epochs).losses().values()
    assert loss.temperature.epochs == expected
    (loss,) = recipes.get("ctkd").scaled(1).losses().values()
    assert loss.temperature.epochs == 1.0


def test_auto_stays():
    recipe = recipes.get("dtkd")
    specs = recipe.to_dict()["distillation_losses"]
    specs["dtkd"]["arguments"]["warmup_epochs"] = "auto"
    recipe = dataclasses.replace(recipe, distillation_losses=specs).scaled(24)
    (loss,) = recipe.losses().values()
    assert loss.warmup_epochs == "auto"


@pytest.mark.parametrize("method", recipes.methods())
def test_scaling_to_its_own_epochs_changes_nothing(method):
    recipe = recipes.get(method)
    assert recipe.scaled(240) == recipe
    again = dataclasses.replace(recipe.scaled(24).scaled(240), source=recipe.source)
    assert again == recipe


@pytest.mark.parametrize("epochs", range(1, 25))
def test_milestones_of_short_runs_are_in_order(epochs):
    milestones = recipes.get("kd").scaled(epochs).milestones
    assert len(milestones) == 3 and list(milestones) == sorted(milestones)
    assert milestones[0] >= 1
    found = rates(recipes.get("kd").scaled(epochs), 2)
    assert (np.diff(found) <= 0).all() and found[0] == pytest.approx(0.05)


@pytest.mark.parametrize("epochs", [0, -1, 1.5, True, "24"])
def test_scaling_to_no_number_of_epochs_is_refused(epochs):
    with pytest.raises(ValueError, match="whole number of at least 1"):
        recipes.get("kd").scaled(epochs)


@pytest.mark.parametrize("method", recipes.methods())
def test_a_recipe_is_the_same_from_json(method):
    recipe = recipes.get(method, "resnet32x4", "resnet8x4").scaled(24)
    data = recipe.to_dict()
    read = json.loads(json.dumps(data))
    assert read == data
    assert Recipe.from_dict(read) == recipe


def test_nobody_changes_a_recipe_from_outside():
    recipe = recipes.get("kd")
    recipe.to_dict()["distillation_losses"].clear()
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.epochs = 3
    assert recipe == recipes.get("kd")
    specs = recipe.to_dict()["distillation_losses"]
    other = dataclasses.replace(recipe, distillation_losses=specs)
    specs.clear()
    assert other == recipe


def test_overrides_are_kept():
    recipe = dataclasses.replace(recipes.get("kd"), learning_rate=0.1, batch_size=128)
    assert recipe.learning_rate == 0.1 and recipe.scaled(24).batch_size == 128
    (last,) = recipe.optimizer().get_config()["learning_rate"]["config"]["boundaries"][
        2:
    ]
    assert last == 210 * 391 - 1


def test_names_are_understood_as_papers_write_them():
    recipe = recipes.get("dkd", "WRN-40-2", "ShuffleNetV1")
    assert (recipe.teacher, recipe.student) == ("wrn_40_2", "shufflev1")
    assert recipes.get("kd", student="resnet20").teacher is None


def test_an_unknown_method_is_refused_with_the_list():
    with pytest.raises(ValueError) as error:
        recipes.get("dktd")
    assert "'dktd'" in str(error.value)
    for name in recipes.methods():
        assert name in str(error.value)


@pytest.mark.parametrize("method", ["ce", "kd", "dtkd", "dkd", "ls"])
def test_an_unknown_pair_is_refused_with_the_list(method):
    with pytest.raises(ValueError) as error:
        recipes.get(method, "resnet8", "resnet110")
    assert "resnet8 → resnet110" in str(error.value)
    for teacher, student in recipes.pairs():
        assert f"{teacher} → {student}" in str(error.value)


@pytest.mark.parametrize("method", ["dtkd", "ce_4kd", "dkd", "ls"])
def test_the_source_says_whose_factors_a_pair_of_no_paper_has(method):
    default = "tuned to a pair is that of resnet32x4 → resnet8x4"
    assert default in recipes.get(method, student="resnet8").source
    assert default not in recipes.get(method, "resnet32x4", "resnet8x4").source
    assert default not in recipes.get("kd", student="resnet8").source


def test_other_data_has_the_same_numbers_and_says_so():
    recipe = recipes.get("kd", data="digits")
    assert "not for digits" in recipe.source and recipe.data == "digits"
    same = dataclasses.replace(recipe, data="cifar100", source="")
    assert same == dataclasses.replace(recipes.get("kd"), source="")
    with pytest.raises(ValueError, match="Give `steps_per_epoch=`"):
        recipe.optimizer()
    assert recipe.optimizer(23)


@pytest.mark.parametrize(
    "wrong, found",
    [
        ({"epochs": 0}, "epochs=0"),
        ({"batch_size": 1.5}, "batch_size=1.5"),
        ({"learning_rate": 0.0}, "learning_rate=0.0"),
        ({"factor": -1.0}, "factor=-1.0"),
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
def test_wrong_values_are_refused(wrong, found):
    with pytest.raises(ValueError) as error:
        dataclasses.replace(recipes.get("kd"), **wrong)
    assert found in str(error.value)


def test_an_unknown_class_is_refused_with_the_list():
    recipe = recipes.get("kd")

    def named(name, **arguments):
        return {"class": name, "arguments": arguments}

    with pytest.raises(ValueError, match="'KDD' in `keras_dtkd.losses`.*DTKD.*KD"):
        dataclasses.replace(recipe, distillation_losses={"kd": named("KDD")})
    specs = {"kd": named("KD", temperature=named("Curiculum"))}
    with pytest.raises(ValueError, match="'Curiculum'.*Curriculum"):
        dataclasses.replace(recipe, distillation_losses=specs)
    with pytest.raises(ValueError, match="'Mixip' in `keras_dtkd.views`.*Mixup"):
        dataclasses.replace(recipe, views={"mixup": named("Mixip")})


def test_data_that_is_no_recipe_is_refused():
    data = recipes.get("kd").to_dict()
    del data["epochs"]
    with pytest.raises(ValueError, match="missing: epochs; unknown: epoch"):
        Recipe.from_dict({**data, "epoch": 240})
