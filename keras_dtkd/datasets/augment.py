"""Random crops and flips of the CIFAR literature, on whole batches."""

# Black pixels added on each side.
PADDING = 4


def crop_and_flip(images, offsets, flips):
    """Crops each image from its zero-padded version and flips some horizontally.

    All pixels of a batch are gathered at once: on two cores this gives twenty times
    as many images per second as cropping one by one, see docs/datasets.md. `offsets`,
    `(batch, 2)`, are the row and the column where the crop begins in the padded image,
    from 0 to 8; `images` are not normalized yet, so that the padding is black.

    Reference:
        He et al., "Deep Residual Learning for Image Recognition", arXiv 1512.03385,
        section 4.2.
    """
    import tensorflow as tf

    height, width, channels = images.shape[1:]
    border = [PADDING, PADDING]
    padded = tf.pad(images, [[0, 0], border, border, [0, 0]])
    rows = tf.range(height) + offsets[:, :1]
    columns = tf.range(width)
    columns = tf.where(flips[:, None], width - 1 - columns, columns) + offsets[:, 1:]
    # Indices into all padded images of the batch, flattened to one axis of pixels.
    starts = tf.range(tf.shape(images)[0])[:, None] * (height + 2 * PADDING)
    pixels = (starts + rows)[:, :, None] * (width + 2 * PADDING) + columns[:, None, :]
    return tf.gather(tf.reshape(padded, (-1, channels)), pixels)
