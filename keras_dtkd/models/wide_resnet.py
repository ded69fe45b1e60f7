"""Wide ResNets."""

from keras import layers

from keras_dtkd.models.builder import LayerBuilder, zeros


def wide_resnet(inputs, classes, data_format, depth, factor):
    """A ResNet of `6n + 4` layers whose stages are `factor` times as wide.

    Batch norm and ReLU come before each convolution. `"stem"` and the stages are the
    raw sums; `"stage1_preact"` etc. are the outputs of the next batch norm. In
    training, the reference computes these by a second call of the three batch norms,
    which updates their moving statistics twice a step (0.81 old + 0.19 new). Here each
    batch norm is called once, and every statistic is updated once.

    Args:
        inputs: Symbolic images.
        classes: Number of logits.
        data_format: `"channels_last"` or `"channels_first"`.
        depth: 16, 40, ...
        factor: Multiplier of the widths 16, 32, 64.

    Returns:
        Logits.

    Reference:
        Zagoruyko and Komodakis, "Wide Residual Networks", arXiv 1605.07146.
    """
    builder = LayerBuilder(data_format)
    x = builder.conv(inputs, 16, 3, name="conv1")
    output_name = "stem"
    x = builder.named_identity(x, output_name)
    repeats = (depth - 4) // 6
    for s, width in enumerate((16 * factor, 32 * factor, 64 * factor), 1):
        for b in range(repeats):
            name = f"block{s}_layer_{b}"
            stride = 2 if s > 1 and b == 0 else 1
            y = _norm_relu(builder, x, f"{name}_bn1", output_name)
            # A projection takes the activated input, an identity the raw one.
            if builder.channels(x) != width:
                x = builder.conv(y, width, 1, stride, name=f"{name}_convShortcut")
            y = builder.conv(y, width, 3, stride, name=f"{name}_conv1")
            y = builder.relu(
                builder.batch_norm(y, name=f"{name}_bn2"), name=f"{name}_relu2"
            )
            y = builder.conv(y, width, 3, name=f"{name}_conv2")
            output_name = f"stage{s}" if b == repeats - 1 else f"{name}_out"
            x = layers.Add(name=output_name)([y, x])
    x = _norm_relu(builder, x, "bn1", output_name)
    return builder.classifier_head(x, classes, bias=zeros)


def _norm_relu(builder, x, norm, output_name):
    x = builder.named_identity(
        builder.batch_norm(x, name=norm), f"{output_name}_preact"
    )
    return builder.relu(x, name=f"{output_name}_relu")
