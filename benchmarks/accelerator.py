"""What is worth measuring on an accelerator, at most 28 minutes at a time.

    benchmarks/accelerator.sh TEACHER.npz DATA_DIR RUNS
    benchmarks/accelerator.sh --dry RUNS

Step times, large vocabularies and rollouts on each backend that finds an accelerator;
then CIFAR-100 in full length, several trainings side by side. The same command
continues, and trains no run again that benchmarks/accelerator/ has. From there
docs/reproducibility.md gets its tables. `--dry` does all of it in small, with results
in RUNS, on any machine.
"""

import argparse
import concurrent.futures
import contextlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "accelerator"
BACKENDS = "jax", "torch", "tensorflow"
# The first pair's teacher is given, the others are trained here.
PAIRS = (
    ("resnet32x4", "resnet8x4"),
    ("resnet56", "resnet20"),
    ("wrn_40_2", "shufflev1"),
)
METHODS = "ce", "kd", "ce_4kd", "dtkd", "dtkd_loose", "dtkd_published", "dkd", "dist"
SEEDS = 3
# What an interrupted process gets to end by itself, and the report; seconds.
GRACE, REPORT = 20, 30


class Commands:
    """Runs commands until a time is over.

    Attributes:
        failed: Commands that failed.
    """

    def __init__(self, seconds):
        self.end, self.failed = time.monotonic() + seconds, []

    def run(self, command, backend, log=None):
        """Runs a command to its end, which is the result, or until the time is over."""
        environment = {
            "KERAS_BACKEND": backend,
            # Several processes share the card.
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",
            "TF_CPP_MIN_LOG_LEVEL": "2",
        }
        if self.end - time.monotonic() < 1:
            return False
        with open(log, "ab") if log else contextlib.nullcontext() as file:
            process = subprocess.Popen(
                [str(part) for part in command],
                env={**os.environ, **environment},
                stdout=file,
                stderr=file,
            )
            try:
                code = process.wait(self.end - time.monotonic())
            except subprocess.TimeoutExpired:
                self._stop(process)
                return False
            except BaseException:
                self._stop(process)
                raise
        if code:
            self.failed.append(command)
            where = f": {log}" if log else ""
            print(f"FAILED: {' '.join(map(str, command))}{where}", flush=True)
        return code == 0

    def _stop(self, process):
        process.send_signal(signal.SIGINT)
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def find_devices():
    """The name of the device of each installed backend."""
    script = "from keras_dtkd import backend; print(backend.device_info()[0])"
    devices = {}
    for backend in BACKENDS:
        if importlib.util.find_spec(backend) is not None:
            environment = {**os.environ, "KERAS_BACKEND": backend}
            command = [sys.executable, "-c", script]
            result = subprocess.run(
                command, env=environment, stdout=subprocess.PIPE, text=True
            )
            if result.returncode:
                print(f"{backend} is left out: it cannot be loaded, see above.")
            else:
                devices[backend] = result.stdout.splitlines()[-1]
    return devices


def measure(commands, folder, name, backend, script, *options):
    """Runs a script, unless there are results of it."""
    path = folder / f"{name}-{backend}.json"
    if path.exists():
        return
    print(f"== {name}, {backend}", flush=True)
    part = path.with_suffix(".part")
    command = [sys.executable, HERE / script, *options, "--output", part]
    if commands.run(command, backend):
        os.replace(part, path)


def measure_all(commands, folder, backend, dry):
    """The timings of a backend."""
    sizes = [(16, 60), (64, 40), (512, 10)]
    chunks, rounds = ["--liger"], 5
    rollout = ["--layers", 12, 4, "--width", 768, "--heads", 12]
    rollout += ["--vocabulary", 32000, "--length", 128]
    if dry:
        sizes, rounds = [(16, 1)], 1
        chunks = ["--vocabularies", 1000, "--tokens", 512, "--chunk-size", 64]
        chunks += ["--calls", 1, "--dtype", "bfloat16", "--loss", "ce_jsd"]
        rollout = ["--batches", 2, "--steps", 1, "--length", 12]
    for precision in ("float32", "bfloat16"):
        for batch, steps in sizes:
            name = f"step_time_{precision}_{batch}"
            options = ["--batches", batch, "--steps", steps, "--rounds", rounds]
            options += ["--precision", precision]
            measure(commands, folder, name, backend, "step_time.py", *options)
    name = "chunked_divergence"
    measure(commands, folder, name, backend, f"{name}.py", *chunks)
    if importlib.util.find_spec("keras_hub") is None:
        print("Rollouts are left out: pip install 'keras-dtkd[hub]'")
        return
    rollout += ["--precision", "bfloat16"]
    measure(commands, folder, "rollout_speed", backend, "rollout_speed.py", *rollout)


class Study:
    """The trainings on one backend.

    Args:
        commands: The `Commands`.
        runs: Folder of states and students.
        results: Folder of the run.json files of finished runs.
        backend: Name of the backend.
        teacher: File of the first pair's teacher, or `None` to train it.
        data: Name of the data.
        options: Options of every training.
        at_once: Trainings side by side.
    """

    def __init__(
        self, commands, runs, results, backend, teacher, data, options, at_once
    ):
        self.commands, self.runs, self.results = commands, runs, results
        self.backend, self.teacher, self.at_once = backend, teacher, at_once
        # `keras-dtkd train` has a folder for each data set.
        self.folder = runs / data
        self.options = ["--data", data, *options, "--backend", backend, "--verbose", 2]

    def train_all(self, seeds):
        """All pairs, the one whose teacher is at hand first."""
        given = PAIRS[: self.teacher is not None]
        own = PAIRS[len(given) :]
        for pair in given:
            self._train_pair(pair, seeds)
        teachers = [self._teacher_run(teacher) for teacher, _ in own]
        self._train([run for run in teachers if not is_finished(self.folder / run[0])])
        for pair in own:
            if self._weights(pair[0]).exists():
                self._train_pair(pair, seeds)

    def _train_pair(self, pair, seeds):
        """All methods of a seed, then the next seed; without what the results have."""
        teacher, student = pair
        shared = ["--student", student, "--teacher", teacher]
        shared += ["--teacher-weights", self._weights(teacher)]
        runs = [
            self._make_run("-".join(pair), method, seed, shared)
            for seed in seeds
            for method in METHODS
        ]
        self._collect(runs)
        try:
            self._train([r for r in runs if not is_finished(self.results / r[0])])
        finally:
            self._collect(runs)

    def _make_run(self, networks, method, seed, options):
        """The folder of a run, relative, and its options."""
        folder = Path(networks) / method / f"{self.backend}-seed{seed}"
        return folder, [*options, "--method", method, "--seed", seed]

    def _teacher_run(self, teacher):
        return self._make_run(teacher, "ce", 0, ["--student", teacher])

    def _weights(self, teacher):
        if teacher == PAIRS[0][0] and self.teacher is not None:
            return self.teacher
        # Written at the end of its training.
        return self.folder / self._teacher_run(teacher)[0] / "student.keras"

    def _train(self, runs):
        with concurrent.futures.ThreadPoolExecutor(self.at_once) as pool:
            futures = []
            for folder, options in runs:
                log = self.runs / f"{'-'.join(folder.parts)}.log"
                command = [sys.executable, "-m", "keras_dtkd.cli", "train"]
                command += [*self.options, *options, "--output", self.runs]
                arguments = command, self.backend, log
                futures.append(pool.submit(self.commands.run, *arguments))
            try:
                for future in futures:
                    future.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _collect(self, runs):
        """Copies the run.json files of finished runs to the results."""
        for folder, _ in runs:
            if is_finished(self.folder / folder):
                (self.results / folder).mkdir(parents=True, exist_ok=True)
                roots = self.folder, self.results
                shutil.copyfile(*(root / folder / "run.json" for root in roots))


def is_finished(folder):
    """Whether a folder has the run.json of a finished run."""
    path = folder / "run.json"
    if not path.exists():
        return False
    return json.loads(path.read_text(encoding="utf-8"))["status"] == "finished"


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("teacher", type=Path, nargs="?", help="a resnet32x4, .npz")
    parser.add_argument("data", type=Path, nargs="?", help="of TensorFlow Datasets")
    parser.add_argument("runs", type=Path, help="of states and students: keep it")
    parser.add_argument("--minutes", type=float, default=28)
    parser.add_argument("--at-once", type=int, default=4, help="trainings side by side")
    parser.add_argument("--dry", action="store_true", help="in small, on any machine")
    arguments = parser.parse_args()
    if not arguments.dry:
        for path in (arguments.teacher, arguments.data):
            if path is None or not path.exists():
                parser.error(f"TEACHER.npz and DATA_DIR must exist. Received: {path}")
    return arguments


def main():
    arguments = parse_arguments()
    runs, dry = arguments.runs.resolve(), arguments.dry
    devices = find_devices()
    if not dry:
        devices = {b: name for b, name in devices.items() if name != "cpu"}
    if not devices:
        sys.exit("No backend finds an accelerator. --dry runs all parts in small.")
    results = runs / "results" if dry else RESULTS
    commands = Commands(60 * arguments.minutes - REPORT)
    for backend, name in devices.items():
        folder = results / re.sub(r"\W+", "-", name.lower()).strip("-")
        folder.mkdir(parents=True, exist_ok=True)
        measure_all(commands, folder, backend, dry)
    needed = "tensorflow", "tensorflow_datasets", "filelock", "jsonschema"
    if None in map(importlib.util.find_spec, needed):
        print("Trainings are left out: pip install 'keras-dtkd[cli]'")
    else:
        print("== trainings", flush=True)
        backend, teacher, data = next(iter(devices)), arguments.teacher, "cifar100"
        options = ["--data-dir", arguments.data]
        if backend == "torch":
            options.append("--torch-compile")
        if dry:
            # PyTorch compiles nothing.
            backend, teacher = "torch" if "torch" in devices else backend, None
            data, options = "digits", ["--epochs", 1, "--train-size", 128]
        runs.mkdir(parents=True, exist_ok=True)
        folders = runs, results / "runs"
        settings = backend, teacher, data, options, arguments.at_once
        Study(commands, *folders, *settings).train_all(range(1 if dry else SEEDS))
    fill = [sys.executable, HERE / "fill_reproducibility.py"]
    environment = {**os.environ, "KERAS_BACKEND": next(iter(devices))}
    subprocess.run([*fill, *([results] if dry else [])], env=environment, check=True)
    sys.exit(1 if commands.failed else 0)


if __name__ == "__main__":
    main()
