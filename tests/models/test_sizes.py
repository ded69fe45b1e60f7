"""Sizes, outputs, names and structure of all networks."""

import keras
import numpy as np
import pytest

from keras_dtkd import models

# Parameters, moving statistics of batch norms, multiply-adds of one 32x32 image,
# feature maps (channels @ side) and pooled channels of the PyTorch networks.
TABLE = """
resnet8 83,892 672 12,507,392 16@32 16@32 32@16 64@8 64
resnet14 181,108 1,120 26,663,168 16@32 16@32 32@16 64@8 64
resnet20 278,324 1,568 40,818,944 16@32 16@32 32@16 64@8 64
resnet32 472,756 2,464 69,130,496 16@32 16@32 32@16 64@8 64
resnet44 667,188 3,360 97,442,048 16@32 16@32 32@16 64@8 64
resnet56 861,620 4,256 125,753,600 16@32 16@32 32@16 64@8 64
resnet110 1,736,564 8,288 253,155,584 16@32 16@32 32@16 64@8 64
resnet8x4 1,233,540 2,752 177,071,104 32@32 64@32 128@16 256@8 256
resnet32x4 7,433,860 9,920 1,083,040,768 32@32 64@32 128@16 256@8 256
wrn_16_1 180,916 928 26,663,168 16@32 16@32 32@16 64@8 64
wrn_16_2 703,284 1,824 101,118,464 16@32 32@32 64@16 128@8 128
wrn_40_1 569,780 2,720 83,286,272 16@32 16@32 32@16 64@8 64
wrn_40_2 2,255,156 5,408 327,610,880 16@32 32@32 64@16 128@8 128
vgg8 3,965,028 2,944 96,192,512 64@32 128@16 256@8 512@4 512@4 512
vgg11 9,277,284 5,504 209,438,720 64@32 128@16 256@8 512@4 512@4 512
vgg13 9,462,180 5,888 284,936,192 64@32 128@16 256@8 512@4 512@4 512
vgg16 14,774,436 8,448 398,182,400 64@32 128@16 256@8 512@4 512@4 512
vgg19 20,086,692 11,008 511,428,608 64@32 128@16 256@8 512@4 512@4 512
mobilenetv2 812,836 18,368 6,523,648 16@16 12@16 16@8 48@4 160@2 1280
shufflev1 949,258 23,736 38,691,456 24@32 240@16 480@8 960@4 960
shufflev2 1,355,528 16,180 44,504,448 24@32 116@16 232@8 464@4 1024
resnet50 23,705,252 53,120 1,298,014,208 64@32 256@32 512@16 1024@8 2048@4 2048
resnet18 11,220,132 9,600 555,468,800 64@32 64@32 128@16 256@8 512@4 512
"""
ROWS = [row.split() for row in TABLE.strip().splitlines()]


def parse_sizes(row):
    return [int(cell.replace(",", "")) for cell in row[1:4]]


def size(weights):
    return sum(int(np.prod(w.shape)) for w in weights)


def multiply_adds(model):
    """A kernel is applied at each position of a convolution's output."""
    total = 0
    for layer in model.layers:
        positions = int(np.prod(layer.output.shape[1:-1]))
        if isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
            total += positions * size([layer.kernel])
        elif isinstance(layer, keras.layers.Dense):
            total += size([layer.kernel])
    return total


def shape(model, name):
    return tuple(model.get_layer(name).output.shape[1:])


def feature_names(model):
    """In the order of the literature: a stem, except for VGG, and the stages."""
    first = [] if model.name.startswith("vgg") else ["stem"]
    stages = [layer.name for layer in model.layers if layer.name[:5] == "stage"]
    return first + [name for name in stages if "_" not in name]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_sizes_and_named_outputs_equal_the_reference(row):
    model = models.get(row[0], data_format="channels_last")
    parameters, statistics, macs = parse_sizes(row)
    assert size(model.trainable_weights) == parameters
    assert size(model.non_trainable_weights) == statistics
    assert multiply_adds(model) == macs
    features = [tuple(map(int, cell.split("@"))) for cell in row[4:-1]]
    names = feature_names(model)
    assert [shape(model, name) for name in names] == [(s, s, c) for c, s in features]
    if row[0] != "mobilenetv2":
        for name in set(names) - {"stem"}:
            assert shape(model, f"{name}_preact") == shape(model, name)
    assert shape(model, "pooled") == (int(row[-1]),)
    assert shape(model, "logits") == model.output_shape[1:] == (100,)


def test_every_network_is_in_the_table():
    assert sorted(models.MODEL_NAMES) == sorted(row[0] for row in ROWS)


@pytest.mark.parametrize(
    "name",
    [
        "resnet8x4",
        "resnet18",
        "wrn_16_2",
        "vgg8",
        "mobilenetv2",
        "shufflev1",
        "shufflev2",
    ],
)
def test_channels_first_has_the_same_weights_and_features(name):
    first = models.get(name, data_format="channels_first")
    last = models.get(name, data_format="channels_last")
    assert first.input_shape == (None, 3, 32, 32)
    shapes = [[(w.path, tuple(w.shape)) for w in m.weights] for m in (first, last)]
    assert shapes[0] == shapes[1]
    for layer in last.layers:
        *sides, channels = layer.output.shape[1:]
        # A channel shuffle has more axes inside.
        if len(sides) != 3:
            assert shape(first, layer.name) == (channels, *sides)


def test_all_batch_norms_have_the_constants_of_pytorch():
    for name in ("resnet8", "wrn_16_1", "vgg8", "shufflev1", "shufflev2", "resnet18"):
        norms = [
            layer
            for layer in models.get(name).layers
            if isinstance(layer, keras.layers.BatchNormalization)
        ]
        assert norms
        assert {(n.momentum, n.epsilon, n.scale, n.center) for n in norms} == {
            (0.9, 1e-5, True, True)
        }


@pytest.mark.parametrize("name", ["resnet8", "vgg8", "mobilenetv2", "shufflev2"])
def test_other_numbers_of_classes_and_input_shapes(name):
    model = models.get(
        name, num_classes=7, input_shape=(64, 48, 1), data_format="channels_last"
    )
    assert model.input_shape == (None, 64, 48, 1)
    assert model.output_shape == (None, 7)


@pytest.mark.parametrize("side, pooled", [(32, False), (64, True), (96, False)])
def test_vgg_has_a_fourth_pooling_for_64_pixels_only(side, pooled):
    model = models.get("vgg8", input_shape=(side, side, 3), data_format="channels_last")
    assert shape(model, "stage5")[0] == side // (16 if pooled else 8)


def test_layer_names_are_the_same_for_every_instance():
    for name in ("resnet8", "wrn_16_1", "vgg8", "mobilenetv2", "shufflev1"):
        first, second = models.get(name), models.get(name)
        assert first.name == second.name == name
        assert [v.name for v in first.layers] == [v.name for v in second.layers]
    lines = []
    models.get("resnet8").summary(print_fn=lambda line, **_: lines.append(line))
    assert "layer1_0_conv1" in "\n".join(lines)


def test_mobilenetv2_has_plain_relus():
    model = models.get("mobilenetv2")
    relus = [v for v in model.layers if isinstance(v, keras.layers.ReLU)]
    # Stem, two in each of 17 blocks, and the last convolution.
    assert len(relus) == 36
    assert all(relu.max_value is None for relu in relus)


def test_the_first_block_of_shufflev1_does_not_group_its_input():
    model = models.get("shufflev1")
    groups = [model.get_layer(f"layer1_{b}_conv1").groups for b in range(4)]
    assert groups == [1, 3, 3, 3]
    assert model.get_layer("layer1_0_conv3").groups == 3
