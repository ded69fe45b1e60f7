"""VGG networks."""

from keras import layers

from keras_dtkd.models.builder import LayerBuilder, small_normal, zeros


def vgg(inputs, classes, data_format, repeats):
    """A VGG with batch norm and one linear layer.

    Args:
        inputs: Symbolic images.
        classes: Number of logits.
        data_format: `"channels_last"` or `"channels_first"`.
        repeats: Number of convolutions in each of the five stages.

    Returns:
        Logits.

    Reference:
        Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
        Recognition", arXiv 1409.1556, with the changes of the distillation literature.
    """
    builder = LayerBuilder(data_format)
    height, width, _ = builder.shape(inputs)
    # Only 64x64 images have a fourth pooling; otherwise stages 4 and 5 share a size.
    pooled_stages = {1, 2, 3, 4} if height == width == 64 else {1, 2, 3}
    x = inputs
    for s, filters in enumerate((64, 128, 256, 512, 512), 1):
        for i in range(repeats[s - 1]):
            # The reference numbers convolution, norm and ReLU from 0 in each block.
            conv, norm = f"block{s - 1}_{3 * i}", f"block{s - 1}_{3 * i + 1}"
            output_name = f"stage{s}" if i == repeats[s - 1] - 1 else f"{conv}_out"
            # The reference has a bias although a batch norm follows.
            x = builder.conv(x, filters, 3, name=conv, bias=True)
            x = builder.named_identity(
                builder.batch_norm(x, name=norm), f"{output_name}_preact"
            )
            x = builder.relu(x, name=output_name)
        if s in pooled_stages:
            x = layers.MaxPooling2D(
                2, 2, data_format=data_format, name=f"stage{s}_pool"
            )(x)
    return builder.classifier_head(x, classes, kernel=small_normal, bias=zeros)
