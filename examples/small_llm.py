"""A small language model from a large one, on eight accelerators

From two presets of KerasHub to a distilled student: Llama 3.2 3B teaches Llama 3.2 1B
on questions of grade-school mathematics (GSM8K), by speculative knowledge distillation
(SKD, Xu et al., arXiv 2410.11325): the student writes, the teacher corrects. Both
models are spread over the accelerators, the vocabulary of 128,000 is computed a part at
a time, and a run that was interrupted goes on.

**What was run:** everything with `KERAS_DTKD_QUICK=1`: a smoke run with the same cells
on tiny random models of the same classes and eight virtual devices of a CPU, one to two
minutes on JAX. **What was not:** the presets themselves. They need a Kaggle account
that accepted Meta's license, and accelerators; no figure of them is given here.

The questions are in the folder `KERAS_DTKD_GSM8K` (`train.jsonl.gz` and
`test.jsonl.gz`, github.com/openai/grade-school-math); without it, four written below
are used. Files go to the current folder, or to `KERAS_DTKD_OUT`.
"""

# %%
import os

os.environ.setdefault("KERAS_BACKEND", "jax")
QUICK = os.environ.get("KERAS_DTKD_QUICK") == "1"
if QUICK:
    # Eight devices on a CPU: of JAX, and before it is imported.
    flags = (
        "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
    )
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}"

import keras
import keras_hub

from keras_dtkd import Distiller, callbacks, losses, metrics, rollouts

TEACHER, STUDENT = "llama3.2_3b", "llama3.2_1b"
# int8 halves the teacher's memory; LoRA trains few weights of the student. The smoke
# run tries both.
INT8_TEACHER = QUICK
LORA_RANK = 4 if QUICK else None
LENGTH = 24 if QUICK else 512  # Tokens, of prompt and answer.
QUESTIONS, TESTS, BATCH, EPOCHS = (16, 8, 8, 2) if QUICK else (7424, 128, 64, 3)
CHUNK, LEARNING_RATE = (16, 1e-2) if QUICK else (1024, 2e-5)


def distill(teacher, student, prompts, folder):
    """The whole of it, once the models are there."""
    steps = EPOCHS * len(prompts) // BATCH
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps, warmup_target=LEARNING_RATE, warmup_steps=steps // 20 + 1
    )
    optimizer = keras.optimizers.AdamW(schedule, beta_2=0.95, global_clipnorm=1.0)
    student.compile(optimizer, loss=None, weighted_metrics=None, sampler="greedy")
    tokenizer = student.preprocessor.tokenizer
    rollout = rollouts.Speculative(
        LENGTH, k=25, stop_token_ids=[tokenizer.end_token_id], seed=0
    )
    distiller = Distiller(
        teacher, student, losses.KD(1.0), rollout=rollout, chunk_size=CHUNK
    )
    # An epoch is repeated if it was interrupted; the order of the prompts is the same.
    resume = callbacks.Resume(folder)
    options = {"initial_epoch": resume.epoch, "callbacks": [resume], "shuffle": False}
    options |= {"batch_size": BATCH, "epochs": EPOCHS, "verbose": 2}
    return distiller.fit(prompts, **options).history


# %% [markdown]
# ## Eight accelerators
# A mesh of four by two: each device has an eighth of each matrix, by KerasHub's layout
# map, and each pair of devices a quarter of the batch. (The map splits the heads of
# attention over the first axis, which must divide the 8 heads of keys and values.)
# Models that fit on one device train as well with `keras.distribution.DataParallel()`.
# `keras.distribution` is JAX's; for TensorFlow and PyTorch see docs/distributed.md.

# %%
if keras.config.backend() == "jax" and len(keras.distribution.list_devices()) > 1:
    devices = keras.distribution.list_devices()
    mesh = keras.distribution.DeviceMesh(
        (len(devices) // 2, 2), ("batch", "model"), devices
    )
    layout = keras_hub.models.Llama3Backbone.get_layout_map(mesh)
    # The map leaves the output embedding as a whole on each device.
    layout["token_embedding/reverse_embeddings$"] = ("batch", "model")
    keras.distribution.set_distribution(
        keras.distribution.ModelParallel(layout_map=layout, batch_dim_name="batch")
    )

# %% [markdown]
# ## The models
# The teacher is in `bfloat16`, 7.2 GB, or half of it in int8. The student computes in
# bfloat16 and has its weights in float32 (`mixed_bfloat16`): in weights of bfloat16 the
# small steps of a fine-tuning are lost. With LoRA the frozen weights may be bfloat16,
# as the adapters are float32 always.


# %%
def load(preset, dtype):
    if QUICK:
        return tiny_model(preset, dtype)
    return keras_hub.models.Llama3CausalLM.from_preset(preset, dtype=dtype)


def tiny_model(preset, dtype):
    """Random weights, bytes as tokens: for the smoke run."""
    width = {TEACHER: 32, STUDENT: 16}[preset]
    backbone = keras_hub.models.Llama3Backbone(
        vocabulary_size=262,
        num_layers=1,
        num_query_heads=4,
        num_key_value_heads=4,
        hidden_dim=width,
        intermediate_dim=2 * width,
        dtype=dtype,
    )
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = (byte for byte in range(256) if byte not in plain)
    pieces = {chr(byte): byte for byte in plain}
    pieces |= {chr(256 + number): byte for number, byte in enumerate(others)}
    names = "begin_of_text", "end_of_text", "eot_id", "start_header_id", "end_header_id"
    pieces |= {f"<|{name}|>": 256 + number for number, name in enumerate(names)}
    tokenizer = keras_hub.models.Llama3Tokenizer(
        vocabulary={**pieces, "th": 261}, merges=["t h"]
    )
    preprocessor = keras_hub.models.Llama3CausalLMPreprocessor(tokenizer)
    return keras_hub.models.Llama3CausalLM(backbone, preprocessor)


keras.utils.set_random_seed(0)
teacher = load(TEACHER, "bfloat16")
if INT8_TEACHER:
    teacher.backbone.quantize("int8")
student = load(STUDENT, "bfloat16" if LORA_RANK else "mixed_bfloat16")
teacher.preprocessor.sequence_length = student.preprocessor.sequence_length = LENGTH
if LORA_RANK:
    student.backbone.enable_lora(LORA_RANK)

# %% [markdown]
# ## Questions

# %%
import gzip
import json
import re
from pathlib import Path

FOLDER = Path(os.environ.get("KERAS_DTKD_GSM8K", "../shared/data/gsm8k"))
FALLBACK = [
    ("Tom has 3 apples and buys 4 more. How many has he?", "3 + 4 = 7\n#### 7"),
    ("A box holds 6 eggs. How many do 5 boxes hold?", "5 * 6 = 30\n#### 30"),
    ("Ann reads 10 pages a day. How many in a week?", "7 * 10 = 70\n#### 70"),
    ("A rope of 12 m is cut into 4 parts. How long is one?", "12 / 4 = 3\n#### 3"),
]


def read_questions(split, count):
    """Pairs of prompt and answer."""
    path = FOLDER / f"{split}.jsonl.gz"
    pairs = FALLBACK * count
    if path.exists():
        with gzip.open(path, "rt", encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        # Notes of a calculator, which the answers do without.
        pairs = [(r["question"], re.sub("<<.*?>>", "", r["answer"])) for r in rows]
    return [(f"Question: {q}\nAnswer:", f" {a}") for q, a in pairs[:count]]


train, test = read_questions("train", QUESTIONS), read_questions("test", TESTS)
if QUICK:
    # Of a byte a token: the room for an answer would be none.
    train, test = ([(q[10:24], a) for q, a in pairs] for pairs in (train, test))
prompts = [question for question, _ in train]

# %% [markdown]
# ## What is measured
# On the answers of the test questions: the student's divergence from the teacher, and
# the share of its tokens that speculative decoding would accept. And what it writes.


# %%
def measure(model):
    divergence, acceptance = metrics.TeacherStudentKL(), metrics.DraftAcceptance()
    # A KerasHub model tokenizes what it is to predict; these take token ids.
    models = [keras.Model(m.input, m.output) for m in (teacher, model)]
    for start in range(0, len(test), 8):
        texts = [question + answer for question, answer in test[start : start + 8]]
        x, _, weights = student.preprocessor(texts)
        outputs = [m.predict(x, verbose=0) for m in models]
        divergence.update_state(*outputs, weights)
        acceptance.update_state(*outputs, weights)
    return float(divergence.result()), float(acceptance.result())


def write(model):
    # Eight, as the devices share a batch.
    questions = [question for question, _ in test[:8]]
    return model.generate(questions, max_length=LENGTH)[0]


# %% [markdown]
# ## The run
# `acceptance` is the share of the student's tokens that the teacher keeps. Start the
# script again after an interruption, and it goes on at the last epoch.

# %%
OUT = Path(os.environ.get("KERAS_DTKD_OUT", "."))
before, text_before = measure(student), write(student)
logs = distill(teacher, student, prompts, OUT / "small_llm_state")
after, text_after = measure(student), write(student)

# %%
smoke = " SMOKE RUN: the figures are meaningless." if QUICK else ""
print(f"{len(test)} test questions.{smoke}\n")
print("| student | KL from the teacher | draft acceptance |")
print("|---|---|---|")
for name, (divergence, acceptance) in {"before": before, "after": after}.items():
    print(f"| {name} | {divergence:.3f} | {acceptance:.3f} |")
for name, values in logs.items():
    print(f"{name}: {', '.join(f'{value:.4g}' for value in values)}")
print(f"\nbefore: {text_before!r}\nafter: {text_after!r}")

# %% [markdown]
# ## The student's file
# A preset is a folder with weights, configuration and tokenizer;
# `Llama3CausalLM.from_preset` reads it. LoRA is merged into it, and can be quantized
# afterwards.

# %%
if keras.config.backend() == "jax":
    # Saving makes variables, of which each is read as a whole.
    keras.distribution.set_distribution(None)
student.save_to_preset(OUT / "small_llm_student")
print(f"Saved {OUT / 'small_llm_student'}.")
if QUICK:
    import shutil

    shutil.rmtree(OUT / "small_llm_state")
