"""The public names, so that none appears, changes or goes unnoticed."""

import importlib
import inspect

import pytest

from tests.conformance.test_registry import KINDS, public_classes

# Besides the classes of methods, each of which is in the registry.
NAMES = {
    "keras_dtkd": """
        Distiller Hyperparameter InteractiveDistiller Step attacks backend
        calibrate_output_bias callbacks datasets diagnose distribution explain features
        functional layers logits losses methods metrics models plots recipes rollouts
        students teachers temperatures views
    """,
    "keras_dtkd.attacks": "Robustness di2_fgsm fgsm load pgd robust_accuracy store",
    "keras_dtkd.backend.autodiff": """
        finite_difference jvp value_and_input_grad
    """,
    "keras_dtkd.callbacks": """
        AttentionEntropyLogger AttentionTemperature CocoAP HyperparameterSchedule
        Resume RobustAccuracy StudentCheckpoint
    """,
    "keras_dtkd.cli": "main",
    "keras_dtkd.core.logits": """
        OutputKind find_name_and_index infer_output_kind look_like_probabilities
        output_keys select_output to_logits
    """,
    "keras_dtkd.datasets": """
        bccd cifar10 cifar100 coco detection digits fashion_mnist from_arrays
        image_folder load_arrays privacy_scores with_columns
    """,
    "keras_dtkd.datasets.detection": """
        DetectionDataset DetectionSample DetectionSplit SampleSpecificAugmentation
    """,
    "keras_dtkd.diagnostics": "Explanation Issue Report diagnose explain",
    "keras_dtkd.distribution": "rank shard world_size",
    "keras_dtkd.functional": """
        chunked chunked_cross_entropy chunked_divergence correlation decoupled
        divergences labels norms ranking statistics
    """,
    "keras_dtkd.functional.correlation": """
        batch_weight cosine inter_class_distance intra_class_distance pearson soft_probs
        unmasked_by_any
    """,
    "keras_dtkd.functional.decoupled": "non_target_log_probs target_log_probs",
    "keras_dtkd.functional.divergences": """
        generalized_jsd get jsd kl log_mixture reverse_kl total_variation
    """,
    "keras_dtkd.functional.labels": "one_hot to_class_probs",
    "keras_dtkd.functional.norms": "absolute normalize safe_sqrt squared_norm",
    "keras_dtkd.functional.ranking": "soft_ranks spearman",
    "keras_dtkd.functional.statistics": """
        agreement center clamp entropy is_unmasked sharpness soft_log_probs std
        unmasked_by_both
    """,
    "keras_dtkd.layers": "VirtualAttentionConv2D fold virtual_attention",
    "keras_dtkd.losses": """
        DistillationLoss FeatureLoss KerasDistillationLoss LossValues TemperatureLoss
        calibrate_output_bias
    """,
    "keras_dtkd.methods": "ikd rlkd",
    "keras_dtkd.methods.ikd": "DualOptimizer InteractiveDistiller",
    "keras_dtkd.methods.rlkd": "",
    "keras_dtkd.metrics": "coco_ap score_candidates",
    "keras_dtkd.models": """
        ClassHeads HierarchicalMixture LlamaTokenizer TaskAttention conv_block
        dense_block get llama_tiny load_sequential_npz load_torch stories260k
    """,
    "keras_dtkd.plots": """
        attention_entropy calibration detections explanation mixture_tree soft_labels
        temperatures training_curves
    """,
    "keras_dtkd.recipes": "Recipe TorchSGD baseline_for compare get methods pairs",
    "keras_dtkd.students": "from_layers",
    "keras_dtkd.teachers": """
        Teacher resolve_teacher store model_fingerprint with_sample_ids
    """,
    "keras_dtkd.temperatures": """
        Temperature TemperaturePair get
    """,
    "keras_dtkd.views": "Stored",
}


def public(module):
    """Names that the module defines or imports for others."""
    found = {}
    for name, value in vars(module).items():
        if name.startswith("_") or not callable(value) and not inspect.ismodule(value):
            continue
        owner = getattr(value, "__module__", None) or getattr(value, "__name__", "")
        package = module.__name__.count(".") == 0 or hasattr(module, "__path__")
        if owner.startswith("keras_dtkd") and (package or owner == module.__name__):
            found[name] = value
    return found


def exported(module):
    """Of a package, the names that its `__init__` imports under their own names."""
    own = {
        n: v
        for n, v in public(module).items()
        if getattr(v, "__module__", None) == module.__name__
    }
    if own or not hasattr(module, "__path__"):
        return own or public(module)
    if hasattr(module, "__all__"):
        return {n: v for n, v in public(module).items() if n in module.__all__}
    # Long imports stand in brackets, with a comma.
    source = inspect.getsource(module).replace(",", "")
    return {n: v for n, v in public(module).items() if f" as {n}\n" in source + "\n"}


@pytest.mark.parametrize("module", NAMES)
def test_the_public_names(module):
    names = exported(importlib.import_module(module)).items()
    methods = {cls for base in KINDS for cls in public_classes(base)}
    others = [name for name, value in names if value not in methods]
    assert sorted(others) == sorted(NAMES[module].split())


@pytest.mark.parametrize("module", NAMES)
def test_each_has_a_docstring(module):
    loaded = importlib.import_module(module)
    assert loaded.__doc__
    for name, value in exported(loaded).items():
        assert value.__doc__ and value.__doc__.strip(), name
        if not inspect.isclass(value):
            continue
        for method, function in vars(value).items():
            own = inspect.isfunction(function) or isinstance(function, property)
            if own and not method.startswith("_") and method != "get_config":
                assert inspect.getdoc(getattr(value, method)), f"{name}.{method}"


BASES = {
    *("DistillationLoss", "FeatureLoss", "LossValues", "TemperatureLoss"),
    *("Temperature", "TemperaturePair"),
}


def test_everything_a_user_configures_can_be_serialized():
    import keras

    for module in ("losses", "temperatures", "metrics"):
        for name, value in exported(
            importlib.import_module(f"keras_dtkd.{module}")
        ).items():
            base = name in BASES
            if inspect.isclass(value) and not base:
                assert keras.saving.get_registered_name(value) == f"keras_dtkd>{name}"
    from keras_dtkd import Distiller

    assert keras.saving.get_registered_name(Distiller) == "keras_dtkd>Distiller"


def test_the_package_lists_its_public_names_and_nothing_else():
    package = importlib.import_module("keras_dtkd")
    expected = {*NAMES["keras_dtkd"].split(), "__version__"}
    assert set(dir(package)) == set(package.__all__) == expected
    assert sorted(package.__all__) == package.__all__
