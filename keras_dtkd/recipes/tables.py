"""What each method trains with, and where that is written. Numbers only."""

import itertools

from keras_dtkd.core.model_pairs import normalize_model_name
from keras_dtkd.losses import dkd_pairs, dtkd_pairs

# The authors' code counts epochs from 1 and lowers the rate where `epoch > 150`.
CIFAR100 = {
    "epochs": 240,
    "batch_size": 64,
    "learning_rate": 0.05,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "milestones": (151, 181, 211),
    "factor": 0.1,
}
SCHEDULE = (
    "Optimizer and schedule: the CIFAR-100 configurations of megvii-research/mdistiller"
)
SLOW_STUDENTS = {"mobilenetv2", "shufflev1", "shufflev2"}
SLOW_RATE = 0.01
TRAINING_SAMPLES = {"cifar100": 50_000}

# The pairs of the papers, and that whose constants are the defaults of their code.
PAIRS = tuple(dtkd_pairs.PAIRS)
DEFAULT_PAIR = ("resnet32x4", "resnet8x4")

# Logit standardization: (temperature, weight) of its code's defaults, and of the pairs
# that have others. Source: the names of the log files in sunshangquan/
# logit-standardization-KD.
LS = (2.0, 9.0)
LS_PAIRS = {
    ("vgg13", "vgg8"): (3.0, 9.0),
    ("resnet50", "mobilenetv2"): (3.0, 1.0),
}


def part(name, **arguments):
    """A loss, a temperature or a view: its class and its arguments."""
    return {"class": name, "arguments": arguments}


def method(source, task_weight=1.0, more=None, **losses):
    """A method's part of a recipe: `name=` its losses, and `more` fields."""
    return {
        "source": source,
        "task_weight": task_weight,
        "distillation_losses": losses,
        **(more or {}),
    }


def hinton(source, name="kd", loss="KD", weight=0.9, **arguments):
    """0.1 of the labels, and a loss on softened logits."""
    return method(source, 0.1, **{name: part(loss, weight=weight, **arguments)})


def dtkd(source, rule, stop_gradient, min_temperature):
    """A form of DTKD. Its factors are the pair's."""
    arguments = {
        "temperature": 4.0,
        "rule": rule,
        "stop_gradient": stop_gradient,
        "min_temperature": min_temperature,
        "warmup_epochs": 20,
    }
    return method(source, dtkd=part("DTKD", **arguments))


DTKD = (
    "Wei and Bai, arXiv 2404.12711; factors, temperature and warm-up of the code, "
    "JinYu1998/DTKD"
)
R2KD = {
    "temperature": 4.0,
    "value_weight": 2.0,
    "rank_weight": 2.0,
    "rank_temperature": 1.0,
}
DKD_ALPHA = 1.0
WITHOUT = "No recipe for images is published: temperature and factors are ours. "

METHODS = {
    "ce": method("The student alone"),
    "kd": hinton(
        "Hinton et al., arXiv 1503.02531; factors and temperature of mdistiller",
        temperature=4.0,
    ),
    "kd_9": hinton(
        "Ours: the control of ls, with the temperature and the weight that it has for "
        "the pair, and 0.1 of the labels",
    ),
    "ce_4kd": method(
        "Ours: the control of equal weight of dtkd, α + β of the pair; and of cskd and "
        "dist where that is 4",
        kd=part("KD", temperature=4.0),
    ),
    "ce_9kd": method(
        "Ours: the control of equal weight of dkd, α + β of the pair",
        kd=part("KD", temperature=4.0),
    ),
    "dtkd": dtkd(
        f"{DTKD}; the rule, which solves equation 3, and the bound τ/2 are ours",
        "exact",
        None,
        "auto",
    ),
    "dtkd_published": dtkd(f"{DTKD}, to the letter", "max", False, None),
    "dkd": method(
        "Zhao et al., arXiv 2203.08679; factors, temperature and warm-up of the code, "
        "megvii-research/mdistiller",
        dkd=part("DKD", temperature=4.0, alpha=DKD_ALPHA, warmup_epochs=20),
    ),
    "dist": method(
        "Huang et al., arXiv 2205.10536; temperature, factors and T² of the code, "
        "image_classification_sota (dist_kd.py, dist_cifar.yaml)",
        dist=part(
            "DIST", temperature=4.0, beta=1.0, gamma=1.0, scale_by_t2=True, weight=2.0
        ),
    ),
    "cskd": method(
        "Ham et al., arXiv 2311.14307; no code is public, so the formula and its "
        "factors are those of a later work, llieeai/lud, which trains for 480 epochs",
        cskd=part(
            "CSKD",
            alpha=2.0,
            temperatures=[
                4.0,
                part("CosineSimilarity", min_temperature=2.0, max_temperature=6.0),
            ],
        ),
    ),
    "cswt": hinton(
        "The temperature of arXiv 2311.14307 (as in llieeai/lud) in kd: ours",
        temperature=part("CosineSimilarity", min_temperature=2.0, max_temperature=6.0),
    ),
    "ctkd": hinton(
        "Li et al., arXiv 2211.16231, equations 6 to 12; factors of the code, "
        "zhengli97/CTKD (run_cifar_distill.sh), which lets the temperature decay",
        temperature=part(
            "Curriculum",
            min_temperature=1.0,
            temperature_span=20.0,
            epochs=10,
            initial_raw=1.0,
        ),
    ),
    "ls": hinton(
        "Sun et al., arXiv 2403.01427; temperature and factor of the code and of its "
        "log files, sunshangquan/logit-standardization-KD",
    ),
    "r2kd": method(
        "Kim et al., arXiv 2311.13934; factors of the code, Seonghak35/R2KD, whose "
        "rank term has no gradient: the soft ranks are ours; mixup is one of its five",
        more={
            "views": {"mixup": part("Mixup", alpha=0.2)},
            "pruning": {"rate": 0.1, "weight": 0.7},
        },
        r2kd=part("R2KD", **R2KD),
        r2kd_mixup=part("R2KD", **R2KD, view="mixup"),
    ),
    "ckd": method(
        "Wilf et al., arXiv 2311.02253; factors of the code, alextxu/ckd, whose rate "
        "is tuned from 0.025 to 0.1 on a few thousand images and whose runs stop "
        "early; the closed form and the calibration are ours",
        task_weight=0.0,
        more={"calibrate": True},
        ckd=part("CKD", label_weight=1.0, teacher_weight=1.0, group_sizes=[1, 1]),
    ),
    "logit_mse": method(
        f"{WITHOUT}Ba and Caruana, arXiv 1312.6184; the control of ckd",
        task_weight=0.0,
        logit_mse=part("LogitMSE", weight=1.0),
    ),
    "gjsd": hinton(
        f"{WITHOUT}The divergence of Agarwal et al., arXiv 2306.13649, in kd",
        "generalized_jsd",
        "GeneralizedJSD",
        beta=0.5,
        temperature=4.0,
    ),
    "tv": hinton(
        f"{WITHOUT}The total variation distance in kd",
        "total_variation",
        "TotalVariation",
        temperature=1.0,
    ),
}

# A bound that the temperatures of trained models do not reach.
LOOSE = 0.1
# dtkd_max, dtkd_max_weight, dtkd_max_all, dtkd_centered, ...
STOPS = {"": False, "_weight": "weight", "_all": True}
METHODS |= {
    f"dtkd_{rule}{suffix}": dtkd(
        f"{DTKD}; rule={rule!r}, stop_gradient={stop!r} and the smallest temperature "
        "are a variant of ours",
        rule,
        stop,
        LOOSE,
    )
    for rule, (suffix, stop) in itertools.product(
        ("max", "centered", "std"), STOPS.items()
    )
}
METHODS["dtkd_loose"] = dtkd(
    f"{DTKD}; equation 3 solved, nearly without a bound: ours", "exact", None, LOOSE
)

CONTROLS = {
    **{name: "ce_4kd" for name in METHODS if name.startswith("dtkd")},
    "cskd": "ce_4kd",
    "dist": "ce_4kd",
    "dkd": "ce_9kd",
    "ls": "kd_9",
    "ckd": "logit_mse",
}


def of_pair(name, pair):
    """What a method's paper tunes to a pair of models, and its control alike.

    Args:
        name: The method.
        pair: One of `PAIRS`.

    Returns:
        Arguments of the method's one loss.
    """
    family = name.split("_")[0]
    if name == "ce_4kd":
        return {"weight": sum(dtkd_pairs.constants(*pair))}
    if name == "ce_9kd":
        return {"weight": DKD_ALPHA + dkd_pairs.constants(*pair)}
    if family == "dtkd":
        alpha, beta = dtkd_pairs.constants(*pair)
        return {"alpha": alpha, "beta": beta}
    if family == "dkd":
        return {"beta": dkd_pairs.constants(*pair)}
    if name in ("ls", "kd_9"):
        temperature, weight = LS_PAIRS.get(pair, LS)
        if name == "ls":
            temperature = part("Standardized", temperature=temperature)
        return {"temperature": temperature, "weight": weight}
    return {}


def learning_rate(student):
    """The papers' learning rate for a student, by its name or `None`."""
    slow = student is not None and normalize_model_name(student) in SLOW_STUDENTS
    return SLOW_RATE if slow else CIFAR100["learning_rate"]
