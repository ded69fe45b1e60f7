"""Folders of TensorFlow Datasets: tiny ones, and one with images of CIFAR-100."""

from pathlib import Path

import numpy as np
import pytest

SHARDS = Path(__file__).parents[3] / "shared/data/cifar100"
SHAPES = {"cifar10": (32, 32, 3), "cifar100": (32, 32, 3), "fashion_mnist": (28, 28, 1)}


def draw(name, count, seed=0):
    """Random images as they are stored, with labels."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, *SHAPES[name]), dtype="uint8")
    return images, np.arange(count) * 7 % 10


def write(folder, name, file_format="tfrecord", splits=None):
    """Writes a small data set under a known name, as TensorFlow Datasets does."""
    tfds = pytest.importorskip("tensorflow_datasets")
    splits = splits or (draw(name, 20, seed=5), draw(name, 6, seed=4))
    builder = tfds.builder(name, data_dir=folder, file_format=file_format)
    features = builder.info.features
    builder.data_path.mkdir(parents=True)
    infos = []
    for split, (images, labels) in zip(("train", "test"), splits, strict=True):
        template = tfds.core.ShardedFileTemplate(
            data_dir=builder.data_path,
            dataset_name=name,
            split=split,
            filetype_suffix=file_format,
        )
        records = [
            features.serialize_example(
                features.encode_example(
                    {"image": image, "label": label, "coarse_label": 0, "id": str(i)}
                    if name == "cifar100"
                    else {"image": image, "label": label, "id": str(i)}
                    if name == "cifar10"
                    else {"image": image, "label": label}
                )
            )
            for i, (image, label) in enumerate(zip(images, labels, strict=True))
        ]
        path = str(template.sharded_filepath(shard_index=0, num_shards=1))
        _write_records(path, file_format, records)
        infos.append(
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=[len(images)],
                num_bytes=0,
                filename_template=template,
            )
        )
    tfds.folder_dataset.write_metadata(
        data_dir=builder.data_path,
        features=features,
        split_infos=infos,
        check_data=False,  # It cannot read ArrayRecord.
    )
    return splits


def _write_records(path, file_format, records):
    if file_format == "tfrecord":
        import tensorflow as tf

        writer = tf.io.TFRecordWriter(path)
    else:
        module = pytest.importorskip("array_record.python.array_record_module")
        writer = module.ArrayRecordWriter(path, "group_size:1")
    for record in records:
        writer.write(record)
    writer.close()


@pytest.fixture(scope="session")
def cifar100_dir(tmp_path_factory):
    """A `data_dir` with CIFAR-100: the default one, or a folder with 2,500 images."""
    tfds = pytest.importorskip("tensorflow_datasets")
    if tfds.builder("cifar100").is_prepared():
        return None
    if not SHARDS.is_dir():
        pytest.skip("CIFAR-100 is neither prepared nor in ../shared/data")
    pytest.importorskip("PIL")
    from benchmarks.cifar100_shards import decode

    folder = tmp_path_factory.mktemp("tfds")
    splits = decode(SHARDS / "train-0.npz", 2000), decode(SHARDS / "test.npz", 500)
    write(folder, "cifar100", splits=splits)
    return folder
