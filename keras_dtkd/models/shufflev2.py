"""ShuffleNet V2."""

from keras import ops

from keras_dtkd.models.builder import LayerBuilder, fan_in_uniform


def shufflev2(inputs, classes, data_format):
    """A ShuffleNetV2 of size 1 with a 1x1 stem of stride 1.

    Channels of `"stage1"` etc. are shuffled and those of `"stage1_preact"` etc. are
    not, so that their order differs.

    Args:
        inputs: Symbolic images.
        classes: Number of logits.
        data_format: `"channels_last"` or `"channels_first"`.

    Returns:
        Logits.

    Reference:
        Ma et al., "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture
        Design", arXiv 1807.11164.
    """
    builder = LayerBuilder(data_format, fan_in_uniform)
    x = builder.batch_norm(builder.conv(inputs, 24, 1, name="conv1"), name="bn1")
    x = builder.relu(x, name="stem")
    for s, (width, repeats) in enumerate(((116, 4), (232, 8), (464, 4)), 1):
        for b in range(repeats):
            output_name = f"stage{s}" if b == repeats - 1 else f"layer{s}_{b}_out"
            block = _downsampling_halves if b == 0 else _basic_halves
            x = block(builder, x, width // 2, f"layer{s}_{b}")
            x = builder.concat(x, name=f"{output_name}_preact")
            # After the concatenation, so that there is a pre-activation to name. The
            # untouched half is already non-negative, and a second ReLU does not change
            # its values or gradients.
            x = builder.relu(x, name=f"{output_name}_relu")
            x = builder.channel_shuffle(x, 2, name=output_name)
    x = builder.batch_norm(builder.conv(x, 1024, 1, name="conv2"), name="bn2")
    return builder.classifier_head(builder.relu(x, name="conv2_relu"), classes)


def _downsampling_halves(builder, x, half, name):
    y = builder.depthwise(x, 2, name=f"{name}_conv1")
    y = builder.batch_norm(y, name=f"{name}_bn1")
    y = builder.conv(y, half, 1, name=f"{name}_conv2")
    y = builder.batch_norm(y, name=f"{name}_bn2")
    return [y, _branch(builder, x, half, 2, name, 3)]


def _basic_halves(builder, x, half, name):
    untouched, x = ops.split(x, 2, axis=builder.axis)
    return [untouched, _branch(builder, x, half, 1, name, 1)]


def _branch(builder, x, half, stride, name, i):
    """1x1, depthwise 3x3 and 1x1 convolutions, numbered from `i`, no last ReLU."""
    x = builder.conv(x, half, 1, name=f"{name}_conv{i}")
    x = builder.batch_norm(x, name=f"{name}_bn{i}")
    x = builder.relu(x, name=f"{name}_relu{i}")
    x = builder.depthwise(x, stride, name=f"{name}_conv{i + 1}")
    x = builder.batch_norm(x, name=f"{name}_bn{i + 1}")
    x = builder.conv(x, half, 1, name=f"{name}_conv{i + 2}")
    return builder.batch_norm(x, name=f"{name}_bn{i + 2}")
