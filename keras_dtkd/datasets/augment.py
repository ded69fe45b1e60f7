"""The augmentation of the CIFAR literature, on whole batches."""

# Pixels of black on each side.
PADDING = 4


def crop_and_flip(images, offsets, flips):
    """Crops each image from its padded self and flips some of them left to right.

    All pixels of a batch are fetched at once: on two cores this makes twenty times as
    many images a second as cropping one after another, see docs/datasets.md.

    Args:
        images: Tensor `(batch, height, width, channels)`, before normalisation: the
            padding is 0, black.
        offsets: Integer tensor `(batch, 2)`: row and column of the padded image, from
            0 to 8, where the crop begins.
        flips: Boolean tensor `(batch,)`: whether the crop is flipped.

    Returns:
        A tensor of the shape and type of `images`.

    Reference:
        He et al., "Deep Residual Learning for Image Recognition", arXiv 1512.03385,
        section 4.2.
    """
    import tensorflow as tf

    height, width, channels = images.shape[1:]
    around = [PADDING, PADDING]
    padded = tf.pad(images, [[0, 0], around, around, [0, 0]])
    rows = tf.range(height) + offsets[:, :1]
    columns = tf.range(width)
    columns = tf.where(flips[:, None], width - 1 - columns, columns) + offsets[:, 1:]
    # Numbers of the pixels, were all padded images of the batch one column of pixels.
    first = tf.range(tf.shape(images)[0])[:, None] * (height + 2 * PADDING)
    pixels = (first + rows)[:, :, None] * (width + 2 * PADDING) + columns[:, None, :]
    return tf.gather(tf.reshape(padded, (-1, channels)), pixels)
