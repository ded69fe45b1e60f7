"""Speculative knowledge distillation of a language model

A trained language model of 260,032 parameters (A. Karpathy's stories260K, trained on
TinyStories) teaches one a quarter its size. Whose tokens should the student learn from?
Stored stories of the teacher, new ones in every step, its own (on-policy), or its own
with the teacher's corrections: speculative knowledge distillation (SKD, Xu et al.,
arXiv 2410.11325). This example trains six students from the same beginning and
measures: how likely the teacher finds the student's stories, how far the student is
from the teacher on new stories, and how many of its tokens the teacher would accept.
It prints a table over three seeds and stories to read, and draws a picture.

It needs KerasHub and the model's files (`KERAS_DTKD_STORIES`, a folder with
`weights.npz` and `tokenizer.json`), and takes about half an hour on two processor
cores; with `KERAS_DTKD_QUICK=1`, a smoke run, two minutes. Finished runs are kept in
`speculative.jsonl`: start again, and it goes on. Files go to the current folder, or to
`KERAS_DTKD_OUT`.
"""

# %%
import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np

from keras_dtkd import Distiller, losses, metrics, models, rollouts

FOLDER = os.environ.get("KERAS_DTKD_STORIES", "../shared/data/stories260k")
teacher = models.stories260k(FOLDER)
tokenizer = models.LlamaTokenizer(FOLDER)


def distill(student, prompts, rollout, epochs):
    """One line more than for images: whose tokens."""
    distiller = Distiller(
        teacher, student, losses.KD(1.0), task_weight=0.0, rollout=rollout
    )
    distiller.fit(prompts, batch_size=BATCH, epochs=epochs, verbose=0)
    return distiller.history.history


# %% [markdown]
# ## The arms
# `LENGTH` counts prompt and story. A prompt is the first tokens of a story of the
# teacher; `Data` trains on the rest of that story, the others on new tokens.

# %%
QUICK = os.environ.get("KERAS_DTKD_QUICK") == "1"
STORIES, BATCH, LENGTH, PROMPT = (16, 8, 16, 6) if QUICK else (768, 16, 64, 8)
WARMUP, EPOCHS = (1, 1) if QUICK else (2, 6)
SEEDS = range(1) if QUICK else range(3)


def new_rollouts(seed):
    options = {"max_length": LENGTH, "stop_token_ids": [1], "seed": seed}
    return {
        "data": rollouts.Data(**options),
        "teacher": rollouts.Teacher(**options),
        "SKD, K = 5": rollouts.Speculative(k=5, **options),
        "SKD, K = 25": rollouts.Speculative(k=25, **options),
        "SKD, K = 100": rollouts.Speculative(k=100, **options),
        "on-policy": rollouts.Student(**options),
    }


def new_student(seed):
    keras.utils.set_random_seed(seed)
    student = models.llama_tiny(3, 32, 86, num_query_heads=4, num_key_value_heads=2)
    student.compile(keras.optimizers.Adam(2e-3), loss=None, weighted_metrics=None)
    return student


# %% [markdown]
# ## Stories, and what is measured


# %%
def draw_stories(model, prompts, seed):
    """Stories of one model: `token_ids` and `padding_mask`, NumPy."""
    rollout = rollouts.Teacher(LENGTH, stop_token_ids=[1], seed=seed)
    result = rollout.sample(None, model, prompts, batch_size=64)
    names = "token_ids", "padding_mask", "generated"
    return {name: getattr(result, name) for name in names}


def begin(stories):
    """The prompts of stories, and with `response_mask` the rest of them."""
    is_response = np.arange(LENGTH) >= PROMPT
    mask = stories["padding_mask"].astype("int32")
    return {
        "token_ids": stories["token_ids"],
        "padding_mask": mask,
        "response_mask": mask * is_response,
    }


def predict(model, stories):
    x = {name: stories[name][:, :-1] for name in ("token_ids", "padding_mask")}
    return model.predict(x, batch_size=64, verbose=0)


def measure(student, prompts, stories, seed):
    """On test prompts and on the teacher's own test stories."""
    own = draw_stories(student, prompts, seed)
    log_probs = keras.ops.log_softmax(predict(teacher, own))
    chosen = np.take_along_axis(
        keras.ops.convert_to_numpy(log_probs), own["token_ids"][:, 1:, None], -1
    )[..., 0]
    generated = own["generated"][:, 1:]
    outputs = predict(teacher, stories), predict(student, stories)
    weights = stories["generated"][:, 1:].astype("float32")
    divergence, acceptance = metrics.TeacherStudentKL(), metrics.DraftAcceptance()
    divergence.update_state(*outputs, weights)
    acceptance.update_state(*outputs, weights)
    ids = own["token_ids"][0][own["padding_mask"][0]]
    return {
        "nll": float(-chosen[generated].mean()),
        "kl": float(divergence.result()),
        "drafts": float(acceptance.result()),
        "tokens a pass": acceptance.expected_tokens(5),
        "story": tokenizer.decode(ids),
    }


# %% [markdown]
# ## The runs
# All arms of a seed begin with the same student, trained for a short while on stored
# stories: a student that writes noise would learn to continue noise.

# %%
import json
import time
from pathlib import Path

OUT = Path(os.environ.get("KERAS_DTKD_OUT", "."))
OUT.mkdir(parents=True, exist_ok=True)
RECORDS = OUT / f"speculative{'_quick' if QUICK else ''}.jsonl"


def new_data(seed, count):
    start = np.full((count, 1), tokenizer.start_token_id, "int32")
    return draw_stories(
        teacher, {"token_ids": start, "padding_mask": np.ones_like(start)}, seed
    )


def run(seed):
    """All arms of a seed that are not in the file yet."""
    known = [json.loads(line) for line in read_lines() if line.strip()]
    done = {record["arm"] for record in known if record["seed"] == seed}
    arms = {"the teacher": None, "beginning": None, **new_rollouts(seed)}
    if set(arms) <= done:
        return
    stories, test = new_data(seed, STORIES), new_data(100 + seed, STORIES // 4)
    prompts, test_prompts = begin(stories), begin(test)
    only = {n: p[:, :PROMPT] for n, p in test_prompts.items() if n != "response_mask"}
    first = new_student(seed)
    distill(first, prompts, new_rollouts(seed)["data"], WARMUP)
    weights = first.get_weights()
    for arm, rollout in arms.items():
        if arm in done:
            continue
        student, start, logs = new_student(seed), time.perf_counter(), {}
        student.set_weights(weights)
        student = teacher if arm == "the teacher" else student
        if rollout is not None:
            logs = distill(student, prompts, rollout, EPOCHS)
        record = {"arm": arm, "seed": seed, **measure(student, only, test, seed)}
        record["seconds"] = time.perf_counter() - start
        record["acceptance"] = logs.get("acceptance", [])
        record["tokens_per_second"] = logs.get("tokens_per_second", [0])[-1]
        with RECORDS.open("a") as file:
            file.write(json.dumps(record) + "\n")
        print(f"seed {seed}, {arm}: {record['seconds']:.0f} s", flush=True)


def read_lines():
    return RECORDS.read_text().splitlines() if RECORDS.exists() else []


if QUICK:
    RECORDS.unlink(missing_ok=True)
for seed in SEEDS:
    run(seed)
records = [json.loads(line) for line in read_lines()]

# %% [markdown]
# ## The table
# `teacher's NLL`: mean of −log p of the student's own tokens under the teacher, in
# nats; that of the teacher's own stories is its entropy. `KL`: of the student from the
# teacher on the teacher's test stories. `drafts`: share of its tokens that speculative
# decoding would accept there. Standard deviations are over seeds.

# %%
smoke = "\nSMOKE RUN: the figures are meaningless." if QUICK else ""
print(f"Mean ± std over {len(SEEDS)} seeds.{smoke}\n")
TITLES = {"nll": "teacher's NLL", "kl": "KL", "drafts": "drafts"}
print("| arm | " + " | ".join(TITLES.values()) + " | tokens/s |")
print("|---" * (len(TITLES) + 2) + "|")
for arm in dict.fromkeys(record["arm"] for record in records):
    rows = [record for record in records if record["arm"] == arm]
    cells = []
    for name in TITLES:
        values = [row[name] for row in rows]
        cells.append(
            f"{np.mean(values):.3f} ± {np.std(values, ddof=len(rows) > 1):.3f}"
        )
    speed = np.mean([row["tokens_per_second"] for row in rows])
    cells.append(f"{speed:,.0f}" if speed else "")
    print(f"| {arm} | {' | '.join(cells)} |")
for record in [record for record in records if record["seed"] == 0]:
    print(f"\n{record['arm']}: {record['story']}")

# %% [markdown]
# ## The picture
# Left: the teacher accepts more and more of the student's tokens, without a schedule.
# Right: near to the teacher on its stories, and likely for the teacher in one's own;
# the line is the teacher's own stories.

# %%
import matplotlib.pyplot as plt

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
for number, arm in enumerate(new_rollouts(0)):
    rows = [record for record in records if record["arm"] == arm]
    curves = np.array([row["acceptance"] for row in rows if row["acceptance"]])
    color = f"C{number}"
    if curves.size:
        epochs = np.arange(1, curves.shape[1] + 1)
        left.plot(epochs, curves.mean(0), color=color, label=arm)
    points = np.array([[row["kl"], row["nll"]] for row in rows])
    right.scatter(*points.T, color=color, label=arm)
own = [record["nll"] for record in records if record["arm"] == "the teacher"]
right.axhline(np.mean(own), color="0.6", linewidth=1)
left.set(xlabel="epoch", ylabel="share of tokens the teacher keeps", ylim=(0, 1.02))
right.set(xlabel="KL from the teacher on its stories, nats a token")
right.set(ylabel="teacher's NLL of the student's stories")
for axes in (left, right):
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
if QUICK:
    figure.suptitle("SMOKE RUN: the figures are meaningless", color="tab:red")
    RECORDS.unlink()
figure.savefig(OUT / "speculative.png", dpi=120)
plt.close(figure)
