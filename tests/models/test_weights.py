"""Weights trained elsewhere are assigned by name, all of them or none."""

import numpy as np
import pytest

from keras_dtkd import models

# The networks that test_reference.py leaves out.
OTHER_NETWORKS = [
    *("resnet8", "resnet14", "resnet32", "resnet44", "resnet56", "resnet110"),
    *("resnet32x4", "wrn_40_1", "wrn_40_2", "vgg8", "vgg13", "vgg16", "vgg19"),
]
# PyTorch's shapes of a resnet8, by name.
STATE = {"conv1.weight": (16, 3, 3, 3), "fc.weight": (4, 64), "fc.bias": (4,)}
NORMS = {"bn1": 16}
for _stage, (_i, _o) in enumerate(((16, 16), (16, 32), (32, 64)), 1):
    _block = f"layer{_stage}.0"
    STATE |= {f"{_block}.conv1.weight": (_o, _i, 3, 3)}
    STATE |= {f"{_block}.conv2.weight": (_o, _o, 3, 3)}
    NORMS |= {f"{_block}.bn1": _o, f"{_block}.bn2": _o}
    if _i != _o:
        STATE |= {f"{_block}.downsample.0.weight": (_o, _i, 1, 1)}
        NORMS |= {f"{_block}.downsample.1": _o}
for _name, _width in NORMS.items():
    for _kind in ("weight", "bias", "running_mean", "running_var"):
        STATE[f"{_name}.{_kind}"] = (_width,)


def state(seed=0):
    rng = np.random.default_rng(seed)
    return {k: rng.uniform(0.5, 1.5, s).astype("float32") for k, s in STATE.items()}


def resnet8():
    return models.get("resnet8", num_classes=4)


def weights(model, layer):
    return [np.array(w) for w in model.get_layer(layer).get_weights()]


def same_weights(a, b):
    return all(
        np.array_equal(u, v)
        for u, v in zip(a.get_weights(), b.get_weights(), strict=True)
    )


def test_arrays_are_assigned_by_name_in_any_order():
    given = state()
    model = resnet8()
    assert models.load_torch(model, dict(sorted(given.items()))) is model
    (kernel,) = weights(model, "layer2_0_conv1")
    assert np.array_equal(
        kernel[0, 2, 5, 7], given["layer2.0.conv1.weight"][7, 5, 0, 2]
    )
    kinds = ("weight", "bias", "running_mean", "running_var")
    norm = [given[f"layer3.0.downsample.1.{kind}"] for kind in kinds]
    assert np.array_equal(weights(model, "layer3_0_downsample_1"), norm)
    kernel, bias = weights(model, "logits")
    assert np.array_equal(kernel, given["fc.weight"].T)
    assert np.array_equal(bias, given["fc.bias"])


@pytest.mark.parametrize("last", ["fc", "linear", "classifier", "classifier.0"])
def test_prefix_counters_and_the_name_of_the_last_layer_are_ignored(last):
    given = {
        "module." + name.replace("fc.", f"{last}."): array
        for name, array in state().items()
    }
    given["module.bn1.num_batches_tracked"] = np.array(7)
    assert same_weights(
        models.load_torch(resnet8(), given), models.load_torch(resnet8(), state())
    )


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_pytorch_tensors_are_accepted(dtype):
    torch = pytest.importorskip("torch")
    given = {
        name: torch.from_numpy(array).to(getattr(torch, dtype)).requires_grad_()
        for name, array in state().items()
    }
    model = models.load_torch(resnet8(), given)
    expected = given["conv1.weight"].detach().float().numpy().transpose(2, 3, 1, 0)
    assert np.array_equal(weights(model, "conv1")[0], expected)


def test_an_npz_file_is_accepted(tmp_path):
    np.savez(tmp_path / "weights.npz", **state())
    model = models.load_torch(resnet8(), tmp_path / "weights.npz")
    assert same_weights(model, models.load_torch(resnet8(), state()))


def test_missing_unexpected_and_misshapen_arrays_are_listed_and_nothing_changes():
    given = state()
    del given["layer1.0.bn1.running_var"]
    given["layer4.0.conv1.weight"] = given["conv1.weight"]
    given["linear.bias"] = given["fc.bias"]
    given["fc.weight"] = np.zeros((100, 64))
    model = resnet8()
    before = model.get_weights()
    with pytest.raises(ValueError, match="do not fit `resnet8`") as error:
        models.load_torch(model, given)
    message = str(error.value)
    assert "1 missing: layer1_0_bn1/moving_variance;" in message
    assert "2 unexpected: layer4.0.conv1.weight, linear.bias;" in message
    assert "1 of another shape: logits/kernel (64, 100) instead of (64, 4)" in message
    assert all(
        np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True)
    )


def test_long_lists_of_names_are_cut():
    with pytest.raises(ValueError, match=r"30 missing: (\S+, ){9}\S+ and 20 more"):
        models.load_torch(models.get("resnet14"), state())


def test_a_whole_checkpoint_raises_with_what_to_pass():
    with pytest.raises(ValueError, match=r"`checkpoint\['model'\]`"):
        models.load_torch(resnet8(), {"epoch": 240, "model": state()})


def test_a_pytorch_file_raises_with_what_to_do():
    with pytest.raises(ValueError, match="Load it with PyTorch"):
        models.load_torch(resnet8(), "resnet8.pth")


@pytest.mark.parametrize("load", [models.load_torch, models.load_sequential_npz])
@pytest.mark.parametrize("given", [None, [np.zeros(3)], object()])
def test_weights_must_be_a_dict_or_a_path(load, given):
    received = type(given).__name__
    message = (
        rf"`models.{load.__name__}`: `weights` .*: {received}\. .*`state_dict\(\)`"
    )
    with pytest.raises(TypeError, match=message):
        load(resnet8(), given)


def test_an_open_npz_file_is_accepted(tmp_path):
    np.savez(tmp_path / "weights.npz", **state())
    with np.load(tmp_path / "weights.npz") as file:
        model = models.load_torch(resnet8(), file)
    assert same_weights(model, models.load_torch(resnet8(), state()))


@pytest.mark.parametrize("kind", ["cut", "empty", "other", "objects"])
def test_an_incomplete_file_is_named(tmp_path, kind):
    path = tmp_path / "weights.npz"
    np.savez(path, **(state() if kind != "objects" else {"a": np.array({}, object)}))
    content = path.read_bytes()
    if kind != "objects":
        half = content[: len(content) // 2]
        damaged = {"cut": half, "empty": b"", "other": b"weights"}
        path.write_bytes(damaged[kind])
    with pytest.raises(ValueError, match=f"{path} is not a complete `.npz` file"):
        models.load_torch(resnet8(), path)


def number_blocks(arrays, blocks):
    """The same arrays with blocks numbered from 3, and kernels with Keras's axes."""
    names = {"conv1": "f.0", "bn1": "f.1", "fc": "fc"}
    suffixes = [("conv1", "c1"), ("bn1", "b1"), ("conv2", "c2"), ("bn2", "b2")]
    suffixes += [("downsample.0", "d.0"), ("downsample.1", "d.1")]
    for i, block in enumerate(blocks):
        names |= {f"{block}.{long}": f"f.{3 + i}.{short}" for long, short in suffixes}
    axes = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}
    return {
        f"{names[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}": array.transpose(
            axes[array.ndim]
        )
        for name, array in arrays.items()
    }


def test_sequential_blocks_are_assigned_by_number():
    given = number_blocks(state(), ["layer1.0", "layer2.0", "layer3.0"])
    assert "f.4.d.1.running_mean" in given
    assert same_weights(
        models.load_sequential_npz(resnet8(), given),
        models.load_torch(resnet8(), state()),
    )


def test_sequential_blocks_of_another_depth_raise():
    given = number_blocks(state(), ["layer1.0", "layer2.0", "layer3.0"])
    with pytest.raises(ValueError, match="`models.load_sequential_npz`: .* do not fit"):
        models.load_sequential_npz(models.get("resnet14", 4), given)


def test_a_damaged_compressed_file_is_named(tmp_path):
    path = tmp_path / "weights.npz"
    rng = np.random.default_rng(0)
    np.savez_compressed(path, a=rng.integers(0, 9, 4000), b=np.arange(4000))
    content, model = bytearray(path.read_bytes()), resnet8()
    for i in range(60, len(content) - 60, len(content) // 30):
        path.write_bytes(content[:i] + bytes(40) + content[i + 40 :])
        with pytest.raises(ValueError, match="not a complete `.npz` file|do not fit"):
            models.load_torch(model, path)


@pytest.mark.parametrize("name", OTHER_NETWORKS)
def test_the_other_networks_accept_the_weights_of_their_references(name):
    pytest.importorskip("torch")
    from tests.models import reference

    given = reference.build(name).state_dict()
    model = models.load_torch(models.get(name), given)
    counters = sum(key.endswith("num_batches_tracked") for key in given)
    assert len(model.weights) == len(given) - counters
    # Each was assigned by its name, not to another variable of its shape.
    for key in (key for key in given if key.endswith("running_var")):
        layer = model.get_layer(key.removesuffix(".running_var").replace(".", "_"))
        assert np.array_equal(layer.get_weights()[3], given[key].numpy())
