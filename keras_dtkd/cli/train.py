"""Trains one student: the same command again goes on, also after a kill."""

import importlib.util
import math
import statistics
import sys
from datetime import UTC, datetime

import keras

from keras_dtkd import backend, calibrate_output_bias, recipes
from keras_dtkd.callbacks import Resume
from keras_dtkd.cli import callbacks as run_callbacks
from keras_dtkd.cli import data, metrics, options, parent_watch, run_config, run_dir
from keras_dtkd.cli import teacher as teachers
from keras_dtkd.cli.environment import circumstances
from keras_dtkd.cli.errors import UserError, as_user_error
from keras_dtkd.core import atomic_io


def add_arguments(parser):
    """The options of the command."""
    parser.add_argument(
        "--method", choices=recipes.methods(), default="dtkd", metavar="NAME",
        help="see docs/recipes.md (default: dtkd); ce is the student alone",
    )  # fmt: skip
    parser.add_argument("--seed", type=options.seed, default=0, metavar="K")
    parser.add_argument(
        "--backend", choices=options.BACKENDS, default=backend.backend_name(),
        help="default: what KERAS_BACKEND or keras.json says",
    )  # fmt: skip
    parser.add_argument(
        "--verbose", type=int, choices=(0, 1, 2),
        default=1 if sys.stdout.isatty() else 2,
        help="0 nothing, 1 a bar, 2 a line an epoch",
    )  # fmt: skip
    options.add(parser)


def run(args):
    """The command."""
    parent_watch.follow()
    with as_user_error():
        plan = run_config.plan_run(args, args.method, args.backend, args.seed)
    # Keras would say so in the first epoch.
    if args.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise UserError("--tensorboard: it is not installed: pip install tensorboard")
    with run_dir.alone(plan.folder):
        before = run_dir.claim(plan)
        if before is not None and before["status"] == "finished":
            print(f"{plan.folder} is finished: {summary(before)}")
            return 0
        atomic_io.remove_partial_files(plan.folder)
        if args.deterministic:
            backend.enable_determinism()
        mixed = "" if args.precision == "float32" else "mixed_"
        keras.config.set_dtype_policy(mixed + args.precision)
        with as_user_error():
            found = data.read(
                args.data, args.data_dir, args.validation, args.train_size
            )
            teacher = None
            if plan.teacher_file:
                name = plan.settings.teacher
                teacher = teachers.load(plan.teacher_file, name, found)
            resume = Resume(plan.folder / run_dir.STATE)
            resume.check()
            if before is None and resume.epoch:
                raise UserError(
                    f"{plan.folder} holds the state of a run whose {run_dir.RUN} is not "
                    "there. Put it back from a copy, or remove the folder to begin "
                    "anew."
                )
            run_dir.trim(plan.folder, resume.epoch)
        print(summary(_train(plan, before, found, teacher, args)))
    return 0


def _train(plan, before, found, teacher, args):
    """The run, from its state on to its end. Gives what run.json says then."""
    folder, chosen, recipe = plan.folder, plan.settings, plan.recipe
    resume = Resume(folder / run_dir.STATE)
    session = {
        "began": _now(),
        "first_epoch": resume.epoch,
        **circumstances(args.words),
    }
    sessions = [*(before or {}).get("sessions", []), session]
    run = {"status": "running", **plan.to_dict(), "sessions": sessions}
    run["epochs_done"] = resume.epoch
    run["judged_on"] = "validation" if chosen.validation else "test"
    progress = run_callbacks.Progress(folder, run)
    progress.write()

    keras.utils.set_random_seed(chosen.seed)
    student = data.network(chosen.student, found)
    run["parameters"] = student.count_params()
    steps = math.ceil(len(found.train[0]) / chosen.batch_size)
    every, train, judge = data.batches(found, chosen, resume.epoch)
    if plan.answers:
        teacher = teachers.answers(teacher, every, plan.answers, args.verbose)
    model = recipe.distiller(teacher, student, steps_per_epoch=steps)
    callbacks = [run_callbacks.Clock(steps)]
    if chosen.validation:
        done = run_dir.history(folder).get("val_accuracy", []) if resume.epoch else []
        callbacks.append(run_callbacks.Best(folder, student, done))
    # Before the state: so it has at least the epochs that the state has.
    callbacks.append(run_callbacks.Log(folder / run_dir.LOG, append=True))
    if args.tensorboard:
        logs = str(folder / "tensorboard")
        callbacks.append(keras.callbacks.TensorBoard(logs, write_graph=False))
    model.fit(
        train,
        validation_data=judge,
        epochs=chosen.epochs,
        initial_epoch=resume.epoch,
        callbacks=[*callbacks, progress, resume],
        verbose=args.verbose,
        # By itself it is: see docs/datasets.md.
        shuffle=False,
    )
    history, best = run_dir.history(folder), None
    if chosen.validation:
        epoch = run_callbacks.best_epoch(history["val_accuracy"])
        best = metrics.load(run_callbacks.best_file(folder, epoch))
    if recipe.calibrate:
        if every is None:
            x = data.normalised(found, found.train)
            said = metrics.outputs(teacher, found, found.train)
        else:
            x, said = teachers.first_version(teacher, every, len(found.train[1]))
        _calibrate(model, [student, best], x, said, found.train[1])
    run_callbacks.save(student, folder / run_dir.STUDENT)
    if best is not None:
        run_callbacks.save(best, folder / run_dir.BEST)
    # As shares again, which float32 has rounded.
    images_judged = len(found.judge[1])
    run["val_accuracy"] = [
        round(value * images_judged) / images_judged
        for value in history["val_accuracy"]
    ]
    run["result"] = _result(run, found, student, best)
    # The first epoch of each process is none.
    warm = [s for s in history["step_seconds"] if not math.isnan(s)]
    run["result"]["step_seconds"] = statistics.median(warm) if warm else None
    run |= {"status": "finished", "ended": _now()}
    progress.write()
    run_callbacks.forget(folder)
    return run


def _calibrate(model, students, x, said, y):
    (loss,) = model.distillation_losses.values()
    target = loss.optimal_logits(said, y)
    target = keras.ops.convert_to_numpy(target)
    for student in students:
        if student is not None:
            calibrate_output_bias(student, x, target)


def _result(run, found, student, best):
    """Both epochs' accuracy on the test images."""
    judged = run["val_accuracy"]
    top, last, calibrated = max(judged), judged[-1], run["recipe"]["calibrate"]
    epoch = run_callbacks.best_epoch(judged)
    if best is not None or calibrated:
        last = metrics.accuracy(student, found, found.test)
    if best is not None:
        top = metrics.accuracy(best, found, found.test)
    elif last > top:
        # The student of the last epoch after its calibration is a further one.
        top, epoch = last, len(judged)
    return {
        "best": {"epoch": epoch, "accuracy": top},
        "last": {"epoch": len(judged), "accuracy": last},
    }


def summary(run):
    """One line about a finished run."""
    best, last = run["result"]["best"], run["result"]["last"]
    seconds = sum(s.get("wall_seconds", 0) for s in run["sessions"])
    return (
        f"test accuracy {100 * last['accuracy']:.2f} % after the last epoch, "
        f"{100 * best['accuracy']:.2f} % after epoch {best['epoch']}, the best by the "
        f"{run['judged_on']} images; {seconds:.0f} s"
    )


def _now():
    return datetime.now(UTC).isoformat(timespec="seconds")
