"""Foreign weights go where their names say, all of them or none."""

import numpy as np
import pytest

from keras_dtkd import models

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


def same(a, b):
    return all(
        np.array_equal(u, v)
        for u, v in zip(a.get_weights(), b.get_weights(), strict=True)
    )


def test_arrays_go_where_their_names_say_in_any_order():
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
def test_prefix_counters_and_the_last_layers_name_do_not_matter(last):
    given = {
        "module." + name.replace("fc.", f"{last}."): array
        for name, array in state().items()
    }
    given["module.bn1.num_batches_tracked"] = np.array(7)
    assert same(
        models.load_torch(resnet8(), given), models.load_torch(resnet8(), state())
    )


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_tensors_of_pytorch_are_taken(dtype):
    torch = pytest.importorskip("torch")
    given = {
        name: torch.from_numpy(array).to(getattr(torch, dtype)).requires_grad_()
        for name, array in state().items()
    }
    model = models.load_torch(resnet8(), given)
    expected = given["conv1.weight"].detach().float().numpy().transpose(2, 3, 1, 0)
    assert np.array_equal(weights(model, "conv1")[0], expected)


def test_a_file_of_arrays_is_taken(tmp_path):
    np.savez(tmp_path / "weights.npz", **state())
    model = models.load_torch(resnet8(), tmp_path / "weights.npz")
    assert same(model, models.load_torch(resnet8(), state()))


def test_what_is_missing_left_over_or_misshapen_is_listed_and_nothing_changed():
    given = state()
    del given["layer1.0.bn1.running_var"]
    given["layer4.0.conv1.weight"] = given["conv1.weight"]
    given["linear.bias"] = given["fc.bias"]
    given["fc.weight"] = np.zeros((100, 64))
    model = resnet8()
    before = model.get_weights()
    with pytest.raises(ValueError, match="not those of `resnet8`") as error:
        models.load_torch(model, given)
    said = str(error.value)
    assert "1 missing: layer1_0_bn1/moving_variance;" in said
    assert "2 left over: layer4.0.conv1.weight, linear.bias;" in said
    assert "1 of another shape: logits/kernel (64, 100) instead of (64, 4)" in said
    assert all(
        np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True)
    )


def test_many_faults_are_counted():
    with pytest.raises(ValueError, match=r"30 missing: (\S+, ){9}\S+ and 20 more"):
        models.load_torch(models.get("resnet14"), state())


def test_a_whole_checkpoint_is_answered_with_what_to_pass():
    with pytest.raises(ValueError, match=r"`checkpoint\['model'\]`"):
        models.load_torch(resnet8(), {"epoch": 240, "model": state()})


def test_a_file_of_pytorch_is_answered_with_what_to_do():
    with pytest.raises(ValueError, match="Load it with PyTorch"):
        models.load_torch(resnet8(), "resnet8.pth")


@pytest.mark.parametrize("load", [models.load_torch, models.load_sequential_npz])
@pytest.mark.parametrize("given", [None, [np.zeros(3)], object()])
def test_what_is_neither_dict_nor_path_is_answered_with_what_to_pass(load, given):
    found = type(given).__name__
    said = rf"`models.{load.__name__}`: `weights` .*: {found}\. .*`state_dict\(\)`"
    with pytest.raises(TypeError, match=said):
        load(resnet8(), given)


def test_an_opened_file_of_arrays_is_taken(tmp_path):
    np.savez(tmp_path / "weights.npz", **state())
    with np.load(tmp_path / "weights.npz") as file:
        model = models.load_torch(resnet8(), file)
    assert same(model, models.load_torch(resnet8(), state()))


@pytest.mark.parametrize("kind", ["cut", "empty", "other", "objects"])
def test_a_file_that_is_no_whole_one_is_named(tmp_path, kind):
    path = tmp_path / "weights.npz"
    np.savez(path, **(state() if kind != "objects" else {"a": np.array({}, object)}))
    whole = path.read_bytes()
    if kind != "objects":
        kept = {"cut": whole[: len(whole) // 2], "empty": b"", "other": b"weights"}
        path.write_bytes(kept[kind])
    with pytest.raises(ValueError, match=f"{path} is no whole `.npz` file"):
        models.load_torch(resnet8(), path)


def numbered(given, blocks):
    """The same arrays with blocks counted from 3, kernels as in Keras."""
    names = {"conv1": "f.0", "bn1": "f.1", "fc": "fc"}
    parts = [("conv1", "c1"), ("bn1", "b1"), ("conv2", "c2"), ("bn2", "b2")]
    parts += [("downsample.0", "d.0"), ("downsample.1", "d.1")]
    for i, block in enumerate(blocks):
        names |= {f"{block}.{long}": f"f.{3 + i}.{short}" for long, short in parts}
    axes = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}
    return {
        f"{names[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}": array.transpose(
            axes[array.ndim]
        )
        for name, array in given.items()
    }


def test_numbered_blocks_go_where_their_number_says():
    given = numbered(state(), ["layer1.0", "layer2.0", "layer3.0"])
    assert "f.4.d.1.running_mean" in given
    assert same(
        models.load_sequential_npz(resnet8(), given),
        models.load_torch(resnet8(), state()),
    )


def test_numbered_blocks_of_another_depth_are_refused():
    given = numbered(state(), ["layer1.0", "layer2.0", "layer3.0"])
    with pytest.raises(
        ValueError, match="`models.load_sequential_npz`: .* not those of"
    ):
        models.load_sequential_npz(models.get("resnet14", 4), given)


def test_a_damaged_compressed_file_is_named(tmp_path):
    path = tmp_path / "weights.npz"
    rng = np.random.default_rng(0)
    np.savez_compressed(path, a=rng.integers(0, 9, 4000), b=np.arange(4000))
    whole = bytearray(path.read_bytes())
    for place in range(60, len(whole) - 60, len(whole) // 30):
        spoiled = whole[:place] + bytes(40) + whole[place + 40 :]
        path.write_bytes(spoiled)
        with pytest.raises(ValueError, match="no whole `.npz` file|are not those of"):
            models.load_torch(models.get("resnet8"), path)
