"""ShuffleNet of the second version."""

from keras import ops

from keras_dtkd.models.builder import LayerBuilder, fan_in_uniform


def shufflev2(inputs, classes, data_format):
    """A ShuffleNetV2 of size 1 with a 1x1 stem of stride 1.

    `"stage1"` and so on are shuffled, `"stage1_preact"` and so on are not: the order of
    their channels differs.

    Args:
        inputs: Images.
        classes: Number of logits.
        data_format: `"channels_last"` or `"channels_first"`.

    Returns:
        Logits.

    Reference:
        Ma et al., "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture
        Design", arXiv 1807.11164.
    """
    made = LayerBuilder(data_format, fan_in_uniform)
    x = made.norm(made.conv(inputs, 24, 1, name="conv1"), name="bn1")
    x = made.relu(x, name="stem")
    for s, (width, repeats) in enumerate(((116, 4), (232, 8), (464, 4)), 1):
        for b in range(repeats):
            end = f"stage{s}" if b == repeats - 1 else f"layer{s}_{b}_out"
            block = _down if b == 0 else _basic
            x = block(made, x, width // 2, f"layer{s}_{b}")
            x = made.concat(x, name=f"{end}_preact")
            # After the concatenation, so that what comes before it has a name. The
            # half that is kept is not negative already, and 0 has no gradient twice.
            x = made.relu(x, name=f"{end}_relu")
            x = made.shuffle(x, 2, name=end)
    x = made.norm(made.conv(x, 1024, 1, name="conv2"), name="bn2")
    return made.classify(made.relu(x, name="conv2_relu"), classes)


def _down(made, x, half, name):
    left = made.norm(made.depthwise(x, 2, name=f"{name}_conv1"), name=f"{name}_bn1")
    left = made.norm(made.conv(left, half, 1, name=f"{name}_conv2"), name=f"{name}_bn2")
    return [left, _branch(made, x, half, 2, name, 3)]


def _basic(made, x, half, name):
    kept, x = ops.split(x, 2, axis=made.axis)
    return [kept, _branch(made, x, half, 1, name, 1)]


def _branch(made, x, half, stride, name, i):
    """1x1, 3x3 of each channel, 1x1, without the last ReLU; numbered from `i`."""
    x = made.norm(made.conv(x, half, 1, name=f"{name}_conv{i}"), name=f"{name}_bn{i}")
    x = made.relu(x, name=f"{name}_relu{i}")
    x = made.depthwise(x, stride, name=f"{name}_conv{i + 1}")
    x = made.norm(x, name=f"{name}_bn{i + 1}")
    x = made.conv(x, half, 1, name=f"{name}_conv{i + 2}")
    return made.norm(x, name=f"{name}_bn{i + 2}")
