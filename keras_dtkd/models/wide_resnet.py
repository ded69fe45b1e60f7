"""Wide ResNets."""

from keras import layers

from keras_dtkd.models.builder import LayerBuilder, zeros


def wide_resnet(inputs, classes, data_format, depth, factor):
    """A ResNet of `6n + 4` layers whose stages are `factor` times as wide.

    Batch norm and ReLU come before each convolution. `"stem"` and the stages are the
    raw sums; `"stage1_preact"` and so on are what the next batch norm makes of them.
    The reference computes those in training by a second call of the three batch norms,
    so that their running statistics move twice a step (0.81 old + 0.19 new). Here they
    are outputs of the one call, and every statistic moves once.

    Args:
        inputs: Images.
        classes: Number of logits.
        data_format: `"channels_last"` or `"channels_first"`.
        depth: 16, 40, ...
        factor: Of the widths 16, 32, 64.

    Returns:
        Logits.

    Reference:
        Zagoruyko and Komodakis, "Wide Residual Networks", arXiv 1605.07146.
    """
    made = LayerBuilder(data_format)
    x = made.conv(inputs, 16, 3, name="conv1")
    end = "stem"
    x = made.mark(x, end)
    repeats = (depth - 4) // 6
    for s, width in enumerate((16 * factor, 32 * factor, 64 * factor), 1):
        for b in range(repeats):
            name = f"block{s}_layer_{b}"
            stride = 2 if s > 1 and b == 0 else 1
            y = _activated(made, x, f"{name}_bn1", end)
            # The projection takes the activated input, an identity the raw one.
            if made.channels(x) != width:
                x = made.conv(y, width, 1, stride, name=f"{name}_convShortcut")
            y = made.conv(y, width, 3, stride, name=f"{name}_conv1")
            y = made.relu(made.norm(y, name=f"{name}_bn2"), name=f"{name}_relu2")
            y = made.conv(y, width, 3, name=f"{name}_conv2")
            end = f"stage{s}" if b == repeats - 1 else f"{name}_out"
            x = layers.Add(name=end)([y, x])
    x = _activated(made, x, "bn1", end)
    return made.classify(x, classes, bias=zeros)


def _activated(made, x, norm, end):
    x = made.mark(made.norm(x, name=norm), f"{end}_preact")
    return made.relu(x, name=f"{end}_relu")
