"""VGG networks."""

from keras import layers

from keras_dtkd.models.builder import LayerBuilder, small_normal, zeros


def vgg(inputs, classes, data_format, repeats):
    """A VGG with batch norm and one linear layer.

    Args:
        inputs: Images.
        classes: Number of logits.
        data_format: `"channels_last"` or `"channels_first"`.
        repeats: Number of convolutions in each of the five stages.

    Returns:
        Logits.

    Reference:
        Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
        Recognition", arXiv 1409.1556, with the changes of the distillation literature.
    """
    made = LayerBuilder(data_format)
    height, width, _ = made.shape(inputs)
    # The fourth pooling is for 64x64 images alone; else stages 4 and 5 share a size.
    pooled = {1, 2, 3, 4} if height == width == 64 else {1, 2, 3}
    x = inputs
    for s, filters in enumerate((64, 128, 256, 512, 512), 1):
        for i in range(repeats[s - 1]):
            # The reference lists convolution, norm and ReLU, in groups counted from 0.
            conv, norm = f"block{s - 1}_{3 * i}", f"block{s - 1}_{3 * i + 1}"
            end = f"stage{s}" if i == repeats[s - 1] - 1 else f"{conv}_out"
            # A bias although a batch norm follows: it counts as a parameter.
            x = made.conv(x, filters, 3, name=conv, bias=True)
            x = made.mark(made.norm(x, name=norm), f"{end}_preact")
            x = made.relu(x, name=end)
        if s in pooled:
            x = layers.MaxPooling2D(
                2, 2, data_format=data_format, name=f"stage{s}_pool"
            )(x)
    return made.classify(x, classes, kernel=small_normal, bias=zeros)
