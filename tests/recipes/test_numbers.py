"""The recipes' numbers, typed again from the papers and their code."""

from pathlib import Path

import numpy as np
import pytest

from keras_dtkd import losses, recipes, temperatures
from keras_dtkd.losses import DKD, DTKD

# teacher, student, learning rate, DTKD's alpha and beta, DKD's beta.
PAIRS = [
    ("resnet56", "resnet20", 0.05, 1.0, 0.5, 2.0),
    ("resnet110", "resnet32", 0.05, 1.0, 0.5, 2.0),
    ("resnet32x4", "resnet8x4", 0.05, 3.0, 1.0, 8.0),
    ("wrn_40_2", "wrn_16_2", 0.05, 3.0, 1.0, 6.0),
    ("wrn_40_2", "wrn_40_1", 0.05, 1.0, 0.5, 6.0),
    ("vgg13", "vgg8", 0.05, 3.0, 1.0, 6.0),
    ("resnet32x4", "shufflev1", 0.01, 3.0, 1.0, 8.0),
    ("resnet32x4", "shufflev2", 0.01, 3.0, 1.0, 8.0),
    ("wrn_40_2", "shufflev1", 0.01, 2.0, 0.5, 8.0),
    ("vgg13", "mobilenetv2", 0.01, 3.0, 1.0, 6.0),
    ("resnet50", "mobilenetv2", 0.01, 3.0, 2.0, 8.0),
]
VARIANTS = {
    f"dtkd_{rule}{suffix}": (rule, stop)
    for rule in ("max", "centered", "std")
    for suffix, stop in (("", False), ("_weight", "weight"), ("_all", True))
}
# The share of the labels, and each loss: its class, its weight, further numbers.
EXPECTED = {
    "ce": (1.0, []),
    "dtkd_loose": (
        1.0,
        [("DTKD", 1.0, {"alpha": 3.0, "beta": 1.0, "min_temperature": 0.1})],
    ),
    "kd": (0.1, [("KD", 0.9, {"temperature": 4.0})]),
    "kd_9": (0.1, [("KD", 9.0, {"temperature": 2.0})]),
    "ce_4kd": (1.0, [("KD", 4.0, {"temperature": 4.0})]),
    "ce_9kd": (1.0, [("KD", 9.0, {"temperature": 4.0})]),
    "dkd": (1.0, [("DKD", 1.0, {"temperature": 4.0, "alpha": 1.0, "beta": 8.0})]),
    "dist": (1.0, [("DIST", 2.0, {"temperature": 4.0, "beta": 1.0, "gamma": 1.0})]),
    "cskd": (1.0, [("CSKD", 1.0, {"alpha": 2.0})]),
    "cswt": (0.1, [("KD", 0.9, {"min_temperature": 2.0, "max_temperature": 6.0})]),
    "ctkd": (
        0.1,
        [
            (
                "KD",
                0.9,
                {"min_temperature": 1.0, "temperature_span": 20.0, "initial_raw": 1.0},
            )
        ],
    ),
    "ls": (0.1, [("KD", 9.0, {"temperature": 2.0})]),
    "r2kd": (
        1.0,
        [("R2KD", 1.0, {"temperature": 4.0, "value_weight": 2.0, "rank_weight": 2.0})]
        * 2,
    ),
    "ckd": (0.0, [("CKD", 1.0, {"label_weight": 1.0, "teacher_weight": 1.0})]),
    "logit_mse": (0.0, [("LogitMSE", 1.0, {})]),
    "gjsd": (0.1, [("GeneralizedJSD", 0.9, {"temperature": 4.0, "beta": 0.5})]),
    "tv": (0.1, [("TotalVariation", 0.9, {"temperature": 1.0})]),
    **dict.fromkeys(
        ["dtkd", "dtkd_published", *VARIANTS],
        (1.0, [("DTKD", 1.0, {"temperature": 4.0, "alpha": 3.0, "beta": 1.0})]),
    ),
}


def number(loss, name):
    """An attribute of the loss, or of its rule; a temperature as a number."""
    rule = getattr(loss, "temperature", None)
    holder = loss if hasattr(loss, name) else rule
    value = getattr(holder, name)
    while isinstance(value, temperatures.Temperature):
        value = value.temperature
    return value if isinstance(value, int | float) else float(value)


def arguments(loss):
    """What makes this loss again, without the numbers that Keras gives to names."""

    def unnamed(value):
        if isinstance(value, dict):
            return {n: unnamed(v) for n, v in value.items() if n != "name"}
        return value

    return unnamed(loss.get_config())


def test_every_method_is_expected():
    assert sorted(recipes.methods()) == sorted(EXPECTED)
    assert recipes.methods()[0] == "ce"


def test_the_page_lists_every_method():
    page = Path(recipes.__file__).parents[2] / "docs" / "recipes.md"
    if not page.exists():
        pytest.skip("The pages are in the source tree alone.")
    text = page.read_text(encoding="utf-8")
    ours = {m for m in VARIANTS if m.count("_") > 1 and "max" not in m}
    assert [m for m in EXPECTED if f"`{m}`" not in text and m not in ours] == []


def test_the_pairs_are_those_of_the_papers():
    assert sorted(recipes.pairs()) == sorted(row[:2] for row in PAIRS)


@pytest.mark.parametrize("method", EXPECTED)
def test_the_optimizer_is_that_of_the_common_recipe(method):
    recipe = recipes.get(method)
    assert recipe.epochs == 240 and recipe.batch_size == 64
    assert recipe.learning_rate == 0.05 and recipe.momentum == 0.9
    assert recipe.weight_decay == 0.0005 and recipe.factor == 0.1
    assert recipe.milestones == (151, 181, 211)


@pytest.mark.parametrize("method", EXPECTED)
def test_the_losses_are_those_of_the_papers(method):
    recipe = recipes.get(method)
    share, expected = EXPECTED[method]
    made = recipe.losses()
    assert recipe.task_weight == share and len(made) == len(expected)
    assert recipe.calibrate == (method == "ckd")
    for loss, (name, weight, values) in zip(made.values(), expected, strict=True):
        assert type(loss) is getattr(losses, name)
        assert loss.weight == weight
        assert {n: number(loss, n) for n in values} == values
        warm = method == "dkd" or method.startswith("dtkd")
        assert loss.warmup_epochs == (20 if warm else 0)
    assert recipe.source


@pytest.mark.parametrize("teacher, student, rate, alpha, beta, dkd", PAIRS)
def test_the_constants_of_a_pair(teacher, student, rate, alpha, beta, dkd):
    for method in recipes.methods():
        recipe = recipes.get(method, teacher, student)
        assert recipe.learning_rate == rate
        assert recipe.student == student
        assert recipe.teacher == (None if method == "ce" else teacher)
        for spec in recipe.distillation_losses.values():
            given = spec["arguments"]
            if spec["class"] == "DTKD":
                assert (given["alpha"], given["beta"]) == (alpha, beta)
            if spec["class"] == "DKD":
                assert (given["alpha"], given["beta"]) == (1.0, dkd)


@pytest.mark.parametrize("teacher, student", [row[:2] for row in PAIRS])
def test_are_what_the_losses_themselves_have_for_a_pair(teacher, student):
    for method, loss in (("dtkd_published", DTKD), ("dkd", DKD)):
        (made,) = recipes.get(method, teacher, student).losses().values()
        assert arguments(made) == arguments(loss.for_pair(teacher, student))


@pytest.mark.parametrize("method", VARIANTS)
def test_the_variants_of_dtkd_are_what_their_names_say(method):
    (loss,) = recipes.get(method).losses().values()
    rule = loss.temperature
    assert (rule.rule, rule.stop_gradient, rule.min_temperature) == (
        *VARIANTS[method],
        0.1,
    )


def test_dtkd_loose_is_the_exact_rule_with_a_low_bound():
    (loss,) = recipes.get("dtkd_loose").losses().values()
    assert arguments(loss) == {
        **arguments(DTKD(min_temperature=0.1)),
        "warmup_epochs": 20,
    }


def test_dtkd_is_the_library_default():
    (loss,) = recipes.get("dtkd").losses().values()
    # "auto" is 20 of 240.
    assert arguments(loss) == {**arguments(DTKD()), "warmup_epochs": 20}


@pytest.mark.parametrize(
    "pair, temperature, weight",
    [
        (("vgg13", "vgg8"), 3.0, 9.0),
        (("resnet50", "mobilenetv2"), 3.0, 1.0),
        (("resnet56", "resnet20"), 2.0, 9.0),
        ((None, None), 2.0, 9.0),
    ],
)
def test_logit_standardization_is_tuned_to_the_pair(pair, temperature, weight):
    (loss,) = recipes.get("ls", *pair).losses().values()
    assert isinstance(loss.temperature, temperatures.Standardized)
    assert number(loss, "temperature") == temperature
    assert loss.weight == weight


def test_the_temperatures_of_cskd():
    (loss,) = recipes.get("cskd").losses().values()
    first, second = loss.temperatures
    assert float(first) == 4.0
    assert isinstance(second, temperatures.CosineSimilarity)
    assert (second.min_temperature, second.max_temperature) == (2.0, 6.0)


def test_ctkd_climbs_over_ten_epochs():
    (loss,) = recipes.get("ctkd").losses().values()
    assert isinstance(loss.temperature, temperatures.Curriculum)
    assert loss.temperature.epochs == 10
    assert np.allclose(loss.temperature.lambda_at(5), 0.5)


def test_r2kd_prunes_a_tenth_and_mixes_by_a_fifth():
    recipe = recipes.get("r2kd")
    assert recipe.pruning == {"rate": 0.1, "weight": 0.7}
    assert recipe.views == {"mixup": {"class": "Mixup", "arguments": {"alpha": 0.2}}}
    assert [loss.view for loss in recipe.losses().values()] == [None, "mixup"]


def weight_of(recipe):
    """What all distillation losses of a recipe weigh, without their warm-up."""

    def one(spec):
        known = spec["arguments"]
        if spec["class"] in ("DTKD", "DKD"):
            return known["alpha"] + known["beta"]
        if spec["class"] == "CSKD":
            # A term for each of its two temperatures.
            return 2 * known["alpha"]
        if spec["class"] == "DIST":
            return known["weight"] * (known["beta"] + known["gamma"])
        return known["weight"]

    return sum(one(spec) for spec in recipe.distillation_losses.values())


@pytest.mark.parametrize("pair", [row[:2] for row in PAIRS] + [(None, None)])
def test_a_control_has_the_weight_of_what_it_controls(pair):
    """But where the pair's own is not the 4 of methods that are tuned to no pair."""
    for method in recipes.methods():
        control = recipes.baseline_for(method)
        if control is None or method == "ckd":
            continue
        assert recipes.baseline_for(control) is None
        found, beside = recipes.get(method, *pair), recipes.get(control, *pair)
        if method in ("cskd", "dist"):
            assert weight_of(found) == 4.0
        else:
            assert weight_of(found) == weight_of(beside)
        assert found.task_weight == beside.task_weight


@pytest.mark.parametrize("teacher, student, rate, alpha, beta, dkd", PAIRS)
def test_controls_are_tuned_to_the_pair(teacher, student, rate, alpha, beta, dkd):
    def loss(method):
        (made,) = recipes.get(method, teacher, student).losses().values()
        return made

    assert loss("ce_4kd").weight == alpha + beta
    assert loss("ce_9kd").weight == 1.0 + dkd
    assert loss("kd_9").weight == loss("ls").weight
    assert number(loss("kd_9"), "temperature") == number(loss("ls"), "temperature")
    assert type(loss("kd_9").temperature) is not temperatures.Standardized


def test_what_a_table_says_of_weights_is_what_recipes_weigh():
    from keras_dtkd.cli.loss_weight_audit import weight

    for pair in recipes.pairs():
        for method in recipes.methods():
            recipe = recipes.get(method, *pair)
            found = weight(recipe.to_dict())
            assert found is None or found == weight_of(recipe)
            assert found is not None or recipes.baseline_for(method) in (
                None,
                "logit_mse",
            )


def test_every_method_of_more_weight_than_kd_has_a_control():
    controls = {"ce_4kd", "ce_9kd", "kd_9", "logit_mse"}
    without = {m for m in recipes.methods() if recipes.baseline_for(m) is None}
    assert without == {"ce", "kd", "r2kd", "cswt", "ctkd", "gjsd", "tv"} | controls
    assert recipes.baseline_for("no such method") is None
