"""Trains one student; the same command continues it, also after a kill."""

import contextlib
import importlib.util
import math
import os
import statistics
import sys
import threading
from datetime import UTC, datetime

import keras
import numpy as np

from keras_dtkd import backend, calibrate_output_bias
from keras_dtkd.callbacks import Resume
from keras_dtkd.cli import callbacks as run_callbacks
from keras_dtkd.cli import data, evaluate, options, run_config, run_dir
from keras_dtkd.cli.environment import environment_info
from keras_dtkd.cli.errors import UserError, as_user_error
from keras_dtkd.core import atomic_io
from keras_dtkd.core.user_code import is_reference
from keras_dtkd.recipes.student_outputs import gives_logits
from keras_dtkd.teachers import store

# In the environment of a process whose stdin is a pipe held open by its parent.
EXIT_WITH_PARENT = {"KERAS_DTKD_EXIT_WITH_PARENT": "1"}


def add_arguments(parser):
    """Adds the options of the command."""
    parser.add_argument(
        "--method", type=options.method, default="dtkd", metavar="NAME",
        help="see docs/recipes.md (default: dtkd); ce is the student without a "
        "teacher, my.py:Squared a loss of your own",
    )  # fmt: skip
    parser.add_argument("--seed", type=options.seed, default=0, metavar="K")
    options.add_backend(parser, help="default: that of KERAS_BACKEND or keras.json")
    parser.add_argument(
        "--verbose", type=int, choices=(0, 1, 2),
        default=1 if sys.stdout.isatty() else 2,
        help="0 silent, 1 a progress bar, 2 a line per epoch",
    )  # fmt: skip
    options.add_arguments(parser)


def run(args):
    """Runs the command."""
    if EXIT_WITH_PARENT.items() <= os.environ.items():
        threading.Thread(target=exit_with_parent, daemon=True).start()
    with as_user_error():
        plan = run_config.plan_run(args, args.method, args.backend, args.seed)
    # Keras would raise this in the first epoch.
    if args.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise UserError("--tensorboard: it is not installed: pip install tensorboard")
    with run_dir.lock(plan.folder):
        previous = run_dir.validate_run_dir(plan)
        if previous is not None and previous["status"] == "finished":
            print(f"{plan.folder} is finished: {summary(previous)}")
            return 0
        atomic_io.remove_partial_files(plan.folder)
        if args.deterministic:
            backend.enable_determinism()
        mixed = "" if args.precision == "float32" else "mixed_"
        keras.config.set_dtype_policy(mixed + args.precision)
        with as_user_error():
            size = plan.settings.get("image_size", data.IMAGE_SIZE)
            subset = args.validation, args.train_size, size
            images = data.load(args.data, args.data_dir, *subset)
            teacher = plan.teacher_file and data.load_teacher(
                plan.teacher_file, plan.settings["teacher"], images
            )
            if is_reference(plan.settings["student"]):
                # What is wrong with it shows before anything is written.
                name = plan.settings["student"]
                network = data.build_network(name, images)
                data.check_loading(network, name)
                gives_logits(network)
            resume = Resume(plan.folder / "state")
            resume.check()
            if previous is None and resume.epoch:
                raise UserError(
                    f"{plan.folder} holds the state of a run without its "
                    f"{run_dir.RUN_FILE}. Restore that file from a copy, or remove the "
                    "folder to start again."
                )
            run_dir.truncate_log(plan.folder, resume.epoch)
        print(summary(_train(plan, previous, images, teacher, resume, args)))
    return 0


def exit_with_parent():
    """Ends this process when its stdin, a pipe, is closed.

    The operating system closes it however the parent ends, SIGKILL included.
    """
    # Not `sys.stdin`: a daemon thread would hold its lock at interpreter shutdown.
    while os.read(0, 1):
        pass
    # As abrupt as SIGKILL, which every run survives.
    os._exit(1)


def seed_quietly(seed):
    """Seeds everything, without what TensorFlow prints when it is loaded.

    Keras seeds TensorFlow on other backends too, wherever it is installed.
    """
    if backend.backend_name() == "tensorflow":
        keras.utils.set_random_seed(seed)
        return
    # TensorFlow has no setting that silences all of it.
    stderr = os.dup(2)
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 2)
        try:
            keras.utils.set_random_seed(seed)
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def _train(plan, previous, images, teacher, resume, args):
    """Trains from the saved state to the end. Returns the content of run.json."""
    folder, settings, recipe = plan.folder, plan.settings, plan.recipe
    session = {"began": _now(), "first_epoch": resume.epoch}
    session |= environment_info(args.argv)
    run = {
        "status": "running",
        **plan.to_dict(),
        "sessions": [*(previous or {}).get("sessions", []), session],
        "epochs_done": resume.epoch,
        "judged_on": "validation" if settings["validation"] else "test",
    }
    progress = run_callbacks.RunProgress(folder, run)
    progress.write()

    seed_quietly(settings["seed"])
    student = data.build_network(settings["student"], images)
    run["parameters"] = student.count_params()
    labels = images.train[1]
    steps_per_epoch = math.ceil(len(labels) / settings["batch_size"])
    all_versions, train, evaluation = data.make_datasets(images, settings, resume.epoch)
    if teacher is not None:
        accuracy = _find_teacher_accuracy(plan)
        if accuracy is None:
            accuracy = evaluate.accuracy(teacher, images, images.test)
        run["teacher_accuracy"] = accuracy
        progress.write()
    if plan.teacher_outputs_dir:
        # The first run that needs the outputs computes them.
        path = plan.teacher_outputs_dir
        with run_dir.lock(path, wait=True):
            atomic_io.remove_partial_files(path)
            teacher = store(teacher, all_versions, path, verbose=args.verbose == 1)
    model = recipe.build_distiller(teacher, student, steps_per_epoch=steps_per_epoch)
    model.torch_compile = settings.get("torch_compile", False)
    callbacks = [run_callbacks.EpochTimer(steps_per_epoch)]
    if settings["validation"]:
        log = run_dir.read_log(folder) if resume.epoch else {}
        accuracies = log.get("val_accuracy", [])
        callbacks.append(run_callbacks.BestStudent(folder, student, accuracies))
    # Before `Resume`, so that the log has at least the epochs of the state.
    log_path = folder / run_dir.LOG_FILE
    callbacks.append(keras.callbacks.CSVLogger(log_path, append=True))
    if args.tensorboard:
        logs = str(folder / "tensorboard")
        callbacks.append(keras.callbacks.TensorBoard(logs, write_graph=False))
    model.fit(
        train,
        validation_data=evaluation,
        epochs=settings["epochs"],
        initial_epoch=resume.epoch,
        callbacks=[*callbacks, progress, resume],
        verbose=args.verbose,
        # The data set shuffles itself: see docs/datasets.md.
        shuffle=False,
    )
    log, students = run_dir.read_log(folder), {run_dir.STUDENT_FILE: student}
    if settings["validation"]:
        epoch = run_callbacks.best_epoch(log["val_accuracy"])
        path = run_callbacks.checkpoint_path(folder, epoch)
        students[run_dir.BEST_FILE] = data.load_network(path)
    if recipe.calibrate:
        if all_versions is None:
            batches = data.sequential_batches(images, images.train)
            outputs = evaluate.predict_logits(teacher, images, images.train)
        else:
            # The first version of each image.
            batches = all_versions.unbatch().take(len(labels)).batch(len(labels))
            outputs = teacher.outputs(None, np.arange(len(labels)))
            outputs = keras.ops.convert_to_numpy(outputs)
            outputs = evaluate.recover_logits(outputs, teacher.output_kind)
        x = np.concatenate([x for x, _ in batches.as_numpy_iterator()])
        (loss,) = model.distillation_losses.values()
        target = keras.ops.convert_to_numpy(loss.optimal_logits(outputs, labels))
        for network in students.values():
            calibrate_output_bias(network, x, target)
    for name, network in students.items():
        run_callbacks.save_student(network, folder / name)
    # Undoes the float32 rounding of the accuracies.
    num_evaluated = len(images.evaluation[1])
    run["val_accuracy"] = [
        round(value * num_evaluated) / num_evaluated for value in log["val_accuracy"]
    ]
    # NaN in the first epoch of each process.
    seconds = [value for value in log["step_seconds"] if not math.isnan(value)]
    run["result"] = {
        **_accuracies(run, images, *students.values()),
        "step_seconds": statistics.median(seconds) if seconds else None,
    }
    run |= {"status": "finished", "ended": _now()}
    progress.write()
    run_callbacks.remove_checkpoints(folder)
    return run


def _find_teacher_accuracy(plan):
    """As this run, or another with the same teacher in the output folder, found it."""
    for path in sorted(plan.folder.parent.parent.glob(f"*/*/{run_dir.RUN_FILE}")):
        with contextlib.suppress(UserError, OSError):
            run = run_dir.read_run(path.parent) or {}
            if "teacher_accuracy" in run and plan.has_same_teacher(run):
                return run["teacher_accuracy"]
    return None


def _accuracies(run, images, student, best_student=None):
    """Those of the best and the last epoch on the test images."""
    accuracies = run["val_accuracy"]
    epoch = run_callbacks.best_epoch(accuracies)
    best = {"epoch": epoch, "accuracy": max(accuracies)}
    last = {"epoch": len(accuracies), "accuracy": accuracies[-1]}
    if best_student is not None or run["recipe"]["calibrate"]:
        last["accuracy"] = evaluate.accuracy(student, images, images.test)
    if best_student is not None:
        best["accuracy"] = evaluate.accuracy(best_student, images, images.test)
    elif last["accuracy"] > best["accuracy"]:
        # The calibrated student of the last epoch is another candidate.
        best = last
    return {"best": best, "last": last}


def summary(run):
    """One line about a finished run."""
    best, last = run["result"]["best"], run["result"]["last"]
    seconds = sum(s.get("wall_seconds", 0) for s in run["sessions"])
    return (
        f"test accuracy {100 * last['accuracy']:.2f} % after the last epoch, "
        f"{100 * best['accuracy']:.2f} % after epoch {best['epoch']}, the best on the "
        f"{run['judged_on']} images; {seconds:.0f} s"
    )


def _now():
    return datetime.now(UTC).isoformat(timespec="seconds")
