"""Each method's hyperparameters and their sources."""

from keras_dtkd.recipes.config import component

# The authors' code counts epochs from 1 and lowers the rate if `epoch > 150`.
CIFAR100 = {
    "epochs": 240,
    "batch_size": 64,
    "learning_rate": 0.05,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "milestones": (151, 181, 211),
    "lr_decay_factor": 0.1,
}
SCHEDULE = (
    "Optimizer and schedule: the CIFAR-100 configurations of megvii-research/mdistiller"
)
LOW_LR_STUDENTS = {"mobilenetv2", "shufflev1", "shufflev2"}
LOW_LEARNING_RATE = 0.01
NUM_TRAINING_SAMPLES = {"cifar100": 50_000}


def method_entry(source, task_weight=1.0, **losses):
    """A method's fields of a recipe, with the distillation losses by name."""
    fields = {"source": source, "task_weight": task_weight}
    return {**fields, "distillation_losses": losses}


def kd_entry(source, name="kd", loss="KD", **arguments):
    """Hinton's weights: 0.1 for the labels, 0.9 for a loss on softened logits."""
    loss = component(loss, weight=0.9, **arguments)
    return method_entry(source, 0.1, **{name: loss})


def dtkd_entry(source, rule, stop_gradient, min_temperature):
    """A variant of DTKD. Its two weights are those of the pair."""
    loss = component(
        "DTKD",
        temperature=4.0,
        rule=rule,
        stop_gradient=stop_gradient,
        min_temperature=min_temperature,
        warmup_epochs=20,
    )
    return method_entry(source, dtkd=loss)


DTKD = (
    "Wei and Bai, arXiv 2404.12711; factors, temperature and warm-up of the code, "
    "JinYu1998/DTKD"
)
SIMILARITY = component("CosineSimilarity", min_temperature=2.0, max_temperature=6.0)
R2KD = dict(temperature=4.0, value_weight=2.0, rank_weight=2.0, rank_temperature=1.0)
DKD_ALPHA = 1.0
UNPUBLISHED = "No recipe for images is published: temperature and factors are ours. "

METHODS = {
    "ce": method_entry("The student alone"),
    "kd": kd_entry(
        "Hinton et al., arXiv 1503.02531; factors and temperature of mdistiller",
        temperature=4.0,
    ),
    "kd_9": kd_entry(
        "Ours: the control of ls, with the temperature and the weight that it has for "
        "the pair, and 0.1 of the labels",
    ),
    "ce_4kd": method_entry(
        "Ours: the control of equal weight of dtkd, α + β of the pair; and of cskd and "
        "dist where that is 4",
        kd=component("KD", temperature=4.0),
    ),
    "ce_9kd": method_entry(
        "Ours: the control of equal weight of dkd, α + β of the pair",
        kd=component("KD", temperature=4.0),
    ),
    "dtkd": dtkd_entry(
        f"{DTKD}; the rule, which solves equation 3, and the bound τ/2 are ours",
        "exact",
        None,
        "auto",
    ),
    "dtkd_published": dtkd_entry(f"{DTKD}, to the letter", "max", False, None),
    "dkd": method_entry(
        "Zhao et al., arXiv 2203.08679; factors, temperature and warm-up of the code, "
        "megvii-research/mdistiller",
        dkd=component("DKD", temperature=4.0, alpha=DKD_ALPHA, warmup_epochs=20),
    ),
    "dist": method_entry(
        "Huang et al., arXiv 2205.10536; temperature, factors and T² of the code, "
        "image_classification_sota (dist_kd.py, dist_cifar.yaml)",
        dist=component(
            "DIST", temperature=4.0, beta=1.0, gamma=1.0, scale_by_t2=True, weight=2.0
        ),
    ),
    "cskd": method_entry(
        "Ham et al., arXiv 2311.14307; no code is public, so the formula and its "
        "factors are those of a later work, llieeai/lud, which trains for 480 epochs",
        cskd=component("CSKD", alpha=2.0, temperatures=[4.0, SIMILARITY]),
    ),
    "cswt": kd_entry(
        "The temperature of arXiv 2311.14307 (as in llieeai/lud) in kd: ours",
        temperature=SIMILARITY,
    ),
    "ctkd": kd_entry(
        "Li et al., arXiv 2211.16231, equations 6 to 12; factors of the code, "
        "zhengli97/CTKD (run_cifar_distill.sh), which lets the temperature decay",
        temperature=component(
            "Curriculum",
            min_temperature=1.0,
            temperature_span=20.0,
            epochs=10,
            initial_raw=1.0,
        ),
    ),
    "ls": kd_entry(
        "Sun et al., arXiv 2403.01427; temperature and factor of the code and of its "
        "log files, sunshangquan/logit-standardization-KD",
    ),
    "r2kd": method_entry(
        "Kim et al., arXiv 2311.13934; factors of the code, Seonghak35/R2KD, whose "
        "rank term has no gradient: the soft ranks are ours; mixup is one of its five",
        r2kd=component("R2KD", **R2KD),
        r2kd_mixup=component("R2KD", **R2KD, view="mixup"),
    )
    | {
        "views": {"mixup": component("Mixup", alpha=0.2)},
        "pruning": {"rate": 0.1, "weight": 0.7},
    },
    "ckd": method_entry(
        "Wilf et al., arXiv 2311.02253; factors of the code, alextxu/ckd, whose rate "
        "is tuned from 0.025 to 0.1 on a few thousand images and whose runs stop "
        "early; the closed form and the calibration are ours",
        task_weight=0.0,
        ckd=component("CKD", label_weight=1.0, teacher_weight=1.0, group_sizes=[1, 1]),
    )
    | {"calibrate": True},
    "logit_mse": method_entry(
        f"{UNPUBLISHED}Ba and Caruana, arXiv 1312.6184; the control of ckd",
        task_weight=0.0,
        logit_mse=component("LogitMSE", weight=1.0),
    ),
    "gjsd": kd_entry(
        f"{UNPUBLISHED}The divergence of Agarwal et al., arXiv 2306.13649, in kd",
        "generalized_jsd",
        "GeneralizedJSD",
        beta=0.5,
        temperature=4.0,
    ),
    "tv": kd_entry(
        f"{UNPUBLISHED}The total variation distance in kd",
        "total_variation",
        "TotalVariation",
        temperature=1.0,
    ),
}

# A lower bound that the temperatures of trained models do not reach.
LOOSE_MIN_TEMPERATURE = 0.1
# dtkd_max, dtkd_max_weight, dtkd_max_all, dtkd_centered, ...
for rule in ("max", "centered", "std"):
    for suffix, stop in (("", False), ("_weight", "weight"), ("_all", True)):
        METHODS[f"dtkd_{rule}{suffix}"] = dtkd_entry(
            f"{DTKD}; rule={rule!r}, stop_gradient={stop!r} and the smallest "
            "temperature are a variant of ours",
            rule,
            stop,
            LOOSE_MIN_TEMPERATURE,
        )
METHODS["dtkd_loose"] = dtkd_entry(
    f"{DTKD}; equation 3 solved, nearly without a bound: ours",
    "exact",
    None,
    LOOSE_MIN_TEMPERATURE,
)

BASELINES = {
    **{n: "ce_4kd" for n in METHODS if n.startswith("dtkd") or n in ("cskd", "dist")},
    "dkd": "ce_9kd",
    "ls": "kd_9",
    "ckd": "logit_mse",
}


def tuned_arguments(method, constants):
    """The arguments of a method's loss that a paper tunes to a pair of networks."""
    dtkd_weights = {"alpha": constants.dtkd_alpha, "beta": constants.dtkd_beta}
    ls = {"temperature": constants.ls_temperature, "weight": constants.ls_weight}
    if method.startswith("dtkd"):
        return dtkd_weights
    standardized = component("Standardized", temperature=ls["temperature"])
    return {
        "ce_4kd": {"weight": sum(dtkd_weights.values())},
        "ce_9kd": {"weight": DKD_ALPHA + constants.dkd_beta},
        "dkd": {"beta": constants.dkd_beta},
        "kd_9": ls,
        "ls": {**ls, "temperature": standardized},
    }.get(method, {})
