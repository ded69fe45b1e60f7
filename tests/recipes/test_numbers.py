"""The numbers of the recipes, transcribed from the papers and their code."""

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
# The task weight, and each loss: its class, its weight, further numbers.
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
    """An attribute of the loss or of its temperature, as a number."""
    owner = loss if hasattr(loss, name) else loss.temperature
    value = getattr(owner, name)
    while isinstance(value, temperatures.Temperature):
        value = value.temperature
    return value if isinstance(value, int | float) else float(value)


def arguments(loss):
    """The config of a loss without the names, which Keras numbers."""

    def without_names(value):
        if isinstance(value, dict):
            return {n: without_names(v) for n, v in value.items() if n != "name"}
        return value

    return without_names(loss.get_config())


def test_expectations_cover_every_method():
    assert sorted(recipes.methods()) == sorted(EXPECTED)
    assert recipes.methods()[0] == "ce"


def test_documentation_lists_every_method():
    page = Path(recipes.__file__).parents[2] / "docs" / "recipes.md"
    if not page.exists():
        pytest.skip("The documentation is part of the source tree only.")
    text = page.read_text(encoding="utf-8")
    abbreviated = {m for m in VARIANTS if m.count("_") > 1 and "max" not in m}
    missing = [m for m in EXPECTED if f"`{m}`" not in text and m not in abbreviated]
    assert missing == []


def test_pairs_are_those_of_the_papers():
    assert sorted(recipes.pairs()) == sorted(row[:2] for row in PAIRS)


@pytest.mark.parametrize("method", EXPECTED)
def test_optimizer_is_that_of_the_common_recipe(method):
    recipe = recipes.get(method)
    assert recipe.epochs == 240 and recipe.batch_size == 64
    assert recipe.learning_rate == 0.05 and recipe.momentum == 0.9
    assert recipe.weight_decay == 0.0005 and recipe.lr_decay_factor == 0.1
    assert recipe.milestones == (151, 181, 211)


@pytest.mark.parametrize("method", EXPECTED)
def test_losses_are_those_of_the_papers(method):
    recipe = recipes.get(method)
    task_weight, expected = EXPECTED[method]
    built = recipe.build_losses()
    assert recipe.task_weight == task_weight and len(built) == len(expected)
    assert recipe.calibrate == (method == "ckd")
    for loss, (name, weight, values) in zip(built.values(), expected, strict=True):
        assert type(loss) is getattr(losses, name)
        assert loss.weight == weight
        assert {n: number(loss, n) for n in values} == values
        has_warmup = method == "dkd" or method.startswith("dtkd")
        assert loss.warmup_epochs == (20 if has_warmup else 0)
    assert recipe.source


@pytest.mark.parametrize("teacher, student, rate, alpha, beta, dkd", PAIRS)
def test_constants_of_a_pair_are_those_of_the_papers(
    teacher, student, rate, alpha, beta, dkd
):
    for method in recipes.methods():
        recipe = recipes.get(method, teacher, student)
        assert recipe.learning_rate == rate
        assert recipe.student == student
        assert recipe.teacher == (None if method == "ce" else teacher)
        for config in recipe.distillation_losses.values():
            values = config["arguments"]
            if config["class"] == "DTKD":
                assert (values["alpha"], values["beta"]) == (alpha, beta)
            if config["class"] == "DKD":
                assert (values["alpha"], values["beta"]) == (1.0, dkd)


@pytest.mark.parametrize("teacher, student", [row[:2] for row in PAIRS])
def test_losses_of_a_pair_equal_those_of_for_pair(teacher, student):
    for method, loss in (("dtkd_published", DTKD), ("dkd", DKD)):
        (built,) = recipes.get(method, teacher, student).build_losses().values()
        assert arguments(built) == arguments(loss.for_pair(teacher, student))


@pytest.mark.parametrize("method", VARIANTS)
def test_variants_of_dtkd_match_their_names(method):
    (loss,) = recipes.get(method).build_losses().values()
    rule = loss.temperature
    assert (rule.rule, rule.stop_gradient, rule.min_temperature) == (
        *VARIANTS[method],
        0.1,
    )


def test_dtkd_loose_is_the_exact_rule_with_a_low_minimum():
    (loss,) = recipes.get("dtkd_loose").build_losses().values()
    assert arguments(loss) == {
        **arguments(DTKD(min_temperature=0.1)),
        "warmup_epochs": 20,
    }


def test_dtkd_is_the_library_default():
    (loss,) = recipes.get("dtkd").build_losses().values()
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
    (loss,) = recipes.get("ls", *pair).build_losses().values()
    assert isinstance(loss.temperature, temperatures.Standardized)
    assert number(loss, "temperature") == temperature
    assert loss.weight == weight


def test_cskd_has_a_constant_and_a_similarity_temperature():
    (loss,) = recipes.get("cskd").build_losses().values()
    first, second = loss.temperatures
    assert float(first) == 4.0
    assert isinstance(second, temperatures.CosineSimilarity)
    assert (second.min_temperature, second.max_temperature) == (2.0, 6.0)


def test_ctkd_curriculum_lasts_ten_epochs():
    (loss,) = recipes.get("ctkd").build_losses().values()
    assert isinstance(loss.temperature, temperatures.Curriculum)
    assert loss.temperature.epochs == 10
    assert np.allclose(loss.temperature.lambda_at(5), 0.5)


def test_r2kd_prunes_a_tenth_and_has_mixup_of_alpha_a_fifth():
    recipe = recipes.get("r2kd")
    assert recipe.pruning == {"rate": 0.1, "weight": 0.7}
    assert recipe.views == {"mixup": {"class": "Mixup", "arguments": {"alpha": 0.2}}}
    assert [loss.view for loss in recipe.build_losses().values()] == [None, "mixup"]


def total_weight(recipe):
    """The sum of the weights of a recipe's distillation losses, after the warm-up."""

    def loss_weight(config):
        values = config["arguments"]
        if config["class"] in ("DTKD", "DKD"):
            return values["alpha"] + values["beta"]
        if config["class"] == "CSKD":
            # One term for each of its two temperatures.
            return 2 * values["alpha"]
        if config["class"] == "DIST":
            return values["weight"] * (values["beta"] + values["gamma"])
        return values["weight"]

    return sum(map(loss_weight, recipe.distillation_losses.values()))


@pytest.mark.parametrize("pair", [row[:2] for row in PAIRS] + [(None, None)])
def test_baseline_has_the_weight_of_its_method(pair):
    """Except for cskd and dist, which have weight 4 for every pair."""
    for method in recipes.methods():
        baseline = recipes.baseline_for(method)
        if baseline is None or method == "ckd":
            continue
        assert recipes.baseline_for(baseline) is None
        recipe = recipes.get(method, *pair)
        baseline_recipe = recipes.get(baseline, *pair)
        if method in ("cskd", "dist"):
            assert total_weight(recipe) == 4.0
        else:
            assert total_weight(recipe) == total_weight(baseline_recipe)
        assert recipe.task_weight == baseline_recipe.task_weight


@pytest.mark.parametrize("teacher, student, rate, alpha, beta, dkd", PAIRS)
def test_baselines_are_tuned_to_the_pair(teacher, student, rate, alpha, beta, dkd):
    def loss(method):
        (built,) = recipes.get(method, teacher, student).build_losses().values()
        return built

    assert loss("ce_4kd").weight == alpha + beta
    assert loss("ce_9kd").weight == 1.0 + dkd
    assert loss("kd_9").weight == loss("ls").weight
    assert number(loss("kd_9"), "temperature") == number(loss("ls"), "temperature")
    assert type(loss("kd_9").temperature) is not temperatures.Standardized


def test_loss_weight_audit_of_the_cli_agrees_with_the_recipes():
    from keras_dtkd.cli.comparability import total_loss_weight

    for pair in recipes.pairs():
        for method in recipes.methods():
            recipe = recipes.get(method, *pair)
            audited = total_loss_weight(recipe.to_dict())
            assert audited is None or audited == total_weight(recipe)
            assert audited is not None or recipes.baseline_for(method) in (
                None,
                "logit_mse",
            )


def test_every_method_of_more_weight_than_kd_has_a_baseline():
    baselines = {"ce_4kd", "ce_9kd", "kd_9", "logit_mse"}
    without = {m for m in recipes.methods() if recipes.baseline_for(m) is None}
    assert without == {"ce", "kd", "r2kd", "cswt", "ctkd", "gjsd", "tv"} | baselines
    assert recipes.baseline_for("no such method") is None
