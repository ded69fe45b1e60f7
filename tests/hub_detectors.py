"""Tiny detectors of KerasHub with random weights, and images with boxes."""

from pathlib import Path

import keras
import numpy as np

from keras_dtkd.datasets import bccd
from tests.selection import JIT_COMPILE

BCCD = Path(__file__).parents[2] / "shared/data/bccd/bccd.npz"
NUM_CLASSES = 3


def make_images(count=4, size=32, seed=0):
    """Images in [0, 1], and their labels: two boxes each, `"yxyx"` in pixels.

    The boxes are large enough for anchors of 32 pixels to match them.

    Returns:
        `(images, {"boxes": (count, 2, 4), "labels": (count, 2)})`.
    """
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, size / 5, (2, count, 2, 2))
    boxes = np.concatenate([corners[0], size - corners[1]], axis=-1)
    images = rng.uniform(size=(count, size, size, 3)).astype("float32")
    labels = rng.integers(0, NUM_CLASSES, (count, 2))
    return images, {"boxes": boxes.astype("float32"), "labels": labels}


def load_images(count=4, size=64):
    """As `make_images`: photographs of BCCD where they are at hand, and all boxes."""
    if not BCCD.is_file():
        return make_images(count, size)
    train = bccd(BCCD, (size, size), verbose=0).train
    return train.images[:count], {n: v[:count] for n, v in train.labels.items()}


def build_retinanet(
    seed=0, width=16, size=32, anchor_size=4.0, min_level=3, max_level=4, **kwargs
):
    """A RetinaNet on a ResNet, compiled as by default with SGD.

    `width` are the channels of the last two stages; KerasHub's first has 64. Anchors
    have `8 * anchor_size` pixels and more. `kwargs` are those of
    `RetinaNetObjectDetector`.
    """
    import keras_hub

    keras.utils.set_random_seed(seed)
    dtype = kwargs.get("dtype")
    encoder = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, width, width],
        stackwise_num_blocks=[1, 1, 1],
        stackwise_num_strides=[1, 2, 2],
        block_type="basic_block",
        image_shape=(size, size, 3),
        dtype=dtype,
    )
    backbone = keras_hub.models.RetinaNetBackbone(
        encoder,
        min_level=min_level,
        max_level=max_level,
        use_p5=False,
        image_shape=(size, size, 3),
        dtype=dtype,
    )
    options = {
        "num_classes": NUM_CLASSES,
        "bounding_box_format": "yxyx",
        "pre_logits_num_conv_layers": 1,
        "anchor_generator": keras_hub.layers.AnchorGenerator(
            *("yxyx", min_level, max_level),
            num_scales=3,
            aspect_ratios=[0.5, 1.0, 2.0],
            anchor_size=anchor_size,
        ),
    }
    model = keras_hub.models.RetinaNetObjectDetector(backbone, **options | kwargs)
    model.compile(optimizer=keras.optimizers.SGD(1e-3), jit_compile=JIT_COMPILE)
    return model


def build_dfine(seed=0, width=8, size=32, num_queries=6, denoising=None, **kwargs):
    """A D-FINE of `width` channels, compiled as by default with SGD.

    `denoising` are labels for its denoising queries, `kwargs` those of
    `DFineObjectDetector`.
    """
    import keras_hub

    keras.utils.set_random_seed(seed)
    encoder = keras_hub.models.HGNetV2Backbone(
        stem_channels=[3, 4, 4],
        stackwise_stage_filters=[
            [4, 4, width, 1, 1, 3],
            [width, 4, 2 * width, 1, 1, 3],
        ],
        apply_downsample=[False, True],
        use_lightweight_conv_block=[False, False],
        depths=[1, 1],
        hidden_sizes=[width, 2 * width],
        embedding_size=4,
        use_learnable_affine_block=False,
        hidden_act="relu",
        image_shape=(size, size, 3),
        out_features=["stage1", "stage2"],
    )
    backbone = keras_hub.models.DFineBackbone(
        backbone=encoder,
        decoder_in_channels=[16, 16],
        encoder_hidden_dim=16,
        num_denoising=0 if denoising is None else 4,
        num_labels=NUM_CLASSES,
        hidden_dim=16,
        learn_initial_query=False,
        num_queries=num_queries,
        anchor_image_size=(size, size),
        feat_strides=[4, 8],
        num_feature_levels=2,
        encoder_in_channels=[width, 2 * width],
        encode_proj_layers=[1],
        num_attention_heads=2,
        encoder_ffn_dim=16,
        num_encoder_layers=1,
        hidden_expansion=0.5,
        depth_multiplier=0.34,
        eval_idx=-1,
        num_decoder_layers=1,
        decoder_attention_heads=2,
        decoder_ffn_dim=16,
        decoder_n_points=[1, 1],
        lqe_hidden_dim=8,
        num_lqe_layers=1,
        out_features=["stage1", "stage2"],
        image_shape=(size, size, 3),
        labels=denoising,
        seed=seed,
    )
    options = {"num_classes": NUM_CLASSES, "bounding_box_format": "yxyx"}
    model = keras_hub.models.DFineObjectDetector(backbone, **options | kwargs)
    model.compile(optimizer=keras.optimizers.SGD(1e-3), jit_compile=JIT_COMPILE)
    return model
