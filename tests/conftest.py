"""Settings that make many tiny models fast. Read before any backend is imported."""

import gc
import os
from pathlib import Path

import pytest

from tests.selection import RUNS_ALL_EVERYWHERE, RUNS_EVERYTHING

TESTS = Path(__file__).parent

# The programs are tiny: compiling them well takes longer than running them.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"
)
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Without it TensorFlow's CPU kernels know no `channels_first`, and TensorFlow leaves it
# off on processors without AVX-512.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

# What does not depend on the backend is tested on one alone: these files, and the tests
# that are marked `single_backend`.
collect_ignore = [
    *("benchmarks", "cli", "datasets", "plots", "recipes"),
    # `diagnose` on every backend: tests of losses.
    *("diagnostics/test_diagnose.py", "diagnostics/test_input_scaling.py"),
    *("diagnostics/test_logit_ranges.py", "diagnostics/test_sampling.py"),
    *("diagnostics/test_report.py", "diagnostics/test_teacher_quality.py"),
    *("validation/test_checks.py", "validation/test_data.py"),
    *("validation/test_models.py", "validation/test_outputs.py"),
    *("attacks/test_robust_accuracy.py", "attacks/test_validation.py"),
    *("callbacks/test_hyperparameter_schedule.py", "callbacks/test_resume_killed.py"),
    *("callbacks/test_robust_accuracy.py", "callbacks/test_student_checkpoint.py"),
    *("conformance/test_arguments.py", "conformance/test_registry.py"),
    *("core/test_disk.py", "losses/test_output_bias.py"),
    *("teachers/test_ensemble_outputs.py", "teachers/test_pruned.py"),
    *("teachers/test_store_integrity.py", "teachers/test_stored.py"),
    *("models/test_get.py", "models/test_initial_weights.py", "models/test_saving.py"),
    *("models/test_sizes.py", "models/test_teacher.py", "models/test_weights.py"),
    *("test_examples.py", "test_lessons.py", "test_package.py"),
    *("test_import_directions.py", "test_public_names.py"),
    *("test_collapse.py", "test_keras_hub.py", "test_padding.py"),
    *("test_regression.py", "test_wrong_arguments.py"),
    *("validation/test_batches.py", "validation/test_labels.py"),
]

# TensorFlow takes a second and more to trace a step, and a millisecond to run one of
# these tiny models. What these files show is no matter of the graph; their tests of
# what changes from step to step are marked `graph`.
EAGER_ON_TENSORFLOW = (
    *("backend/test_deferred_interrupt.py", "callbacks/test_resume.py"),
    *("diagnostics", "distribution/test_tensorflow.py", "losses", "methods"),
    *("layers", "metrics", "preparation", "teachers", "temperatures"),
    *("validation", "views", "functional", "conformance/test_teachers.py"),
    *("test_teacher_inputs.py", "models/test_hierarchical_mixture.py"),
    "test_detectors.py",
    *("test_distiller_fit.py", "test_distiller_logs.py", "test_distiller_modes.py"),
    *("test_distiller_outputs.py", "test_integration.py", "test_loss_outputs.py"),
    *("test_own_parts.py", "test_saving.py"),
    *("test_student_overrides.py", "test_training_outputs.py"),
)

if RUNS_EVERYTHING:
    collect_ignore = []
if RUNS_ALL_EVERYWHERE:
    EAGER_ON_TENSORFLOW = ()

# Files of a minute or more: first, so that no worker waits for the other at the end.
LONGEST = (
    *("test_lessons.py", "test_examples.py", "test_tensorflow.py", "test_jax.py"),
    *("test_training.py", "test_resume_killed.py", "test_train.py", "test_torch.py"),
    *("test_interactive_distiller.py", "test_distiller_fit.py"),
)


def pytest_collection_modifyitems(config, items):
    items.sort(key=lambda item: item.path.name not in LONGEST)
    if RUNS_EVERYTHING:
        return
    elsewhere = [item for item in items if item.get_closest_marker("single_backend")]
    config.hook.pytest_deselected(items=elsewhere)
    items[:] = [item for item in items if item not in elsewhere]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Before the fixtures, also those of the file."""
    if os.environ.get("KERAS_BACKEND") == "tensorflow":
        import tensorflow as tf

        file = item.path.relative_to(TESTS)
        listed = any(file.is_relative_to(path) for path in EAGER_ON_TENSORFLOW)
        eager = listed and item.get_closest_marker("graph") is None
        tf.config.run_functions_eagerly(eager)
        # Graphs that run once or twice need not be made faster.
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item, nextitem):
    """After each file: a full search of thousands of models for garbage takes 40 s."""
    if nextitem is None or nextitem.path != item.path:
        gc.collect()
        gc.freeze()
