"""Folders of TensorFlow Datasets: a tiny one, and CIFAR-100 itself."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SHARED = Path(__file__).parents[2] / "../shared"
SHAPES = {"cifar10": (32, 32, 3), "cifar100": (32, 32, 3), "fashion_mnist": (28, 28, 1)}


def draw(name, count, seed=0):
    """Images as they come, with labels."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, *SHAPES[name]), dtype="uint8")
    return images, np.arange(count) * 7 % 10


def write(folder, name, file_format="tfrecord", counts=(20, 6)):
    """A small data set under a known name, as TensorFlow Datasets would write it."""
    tfds = pytest.importorskip("tensorflow_datasets")
    builder = tfds.builder(name, data_dir=folder, file_format=file_format)
    features = builder.info.features
    builder.data_path.mkdir(parents=True)
    infos, written = [], []
    for split, count in zip(("train", "test"), counts, strict=True):
        template = tfds.core.ShardedFileTemplate(
            data_dir=builder.data_path,
            dataset_name=name,
            split=split,
            filetype_suffix=file_format,
        )
        images, labels = draw(name, count, seed=len(split))
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
                shard_lengths=[count],
                num_bytes=0,
                filename_template=template,
            )
        )
        written.append((images, labels))
    tfds.folder_dataset.write_metadata(
        data_dir=builder.data_path,
        features=features,
        split_infos=infos,
        check_data=False,  # It cannot look into ArrayRecord.
    )
    return written


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
def cifar100_dir(request):
    """A `data_dir` with CIFAR-100: the usual one if it is there, else made once."""
    tfds = pytest.importorskip("tensorflow_datasets")
    if tfds.builder("cifar100").is_prepared():
        return None
    tool = SHARED / "tools/tfds_from_shards.py"
    if not tool.is_file():
        pytest.skip("CIFAR-100 is not prepared here, and ../shared does not make it")
    pytest.importorskip("importlib_resources", reason="needed to prepare CIFAR-100")
    folder = request.config.cache.mkdir("tfds")
    if tfds.builder("cifar100", data_dir=folder).is_prepared():
        return folder
    command = [sys.executable, str(tool), "cifar100", "--data-dir", str(folder)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return folder
