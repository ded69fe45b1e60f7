"""Blocks for images and for vectors."""

import pytest

from keras_dtkd.models import conv_block, dense_block

pytestmark = pytest.mark.single_backend


def test_a_conv_block_is_the_published_one():
    block = conv_block(7)
    names = [layer.name for layer in block.layers]
    assert names == ["conv1", "bn1", "relu1", "conv2", "bn2", "relu2", "pool"]
    assert block.compute_output_shape((2, 8, 8, 3)) == (2, 4, 4, 7)
    assert conv_block(7, pool=False).compute_output_shape((2, 8, 8, 3))[1:3] == (8, 8)


def test_channels_first_reaches_every_layer():
    block = conv_block(7, data_format="channels_first")
    assert block.compute_output_shape((2, 3, 8, 8)) == (2, 7, 4, 4)
    assert block.get_layer("bn1").axis == 1


def test_a_dense_block_may_be_normalized():
    names = [layer.name for layer in dense_block(7, normalize=True).layers]
    assert names == ["dense", "bn", "relu"]
    assert dense_block(7).compute_output_shape((2, 3)) == (2, 7)


@pytest.mark.invariant(number=10)
def test_wrong_sizes_are_refused():
    with pytest.raises(ValueError, match="`conv_block`: `filters`.*0"):
        conv_block(0)
    with pytest.raises(ValueError, match="`dense_block`: `units`.*2.5"):
        dense_block(2.5)
