"""A trained language model of 260,032 parameters, and its tokenizer."""

import json
from pathlib import Path

import numpy as np

HEADS, KEY_VALUE_HEADS, WIDTH, HEAD_WIDTH = 8, 4, 64, 8


def llama_tiny(
    num_layers=5,
    hidden_dim=WIDTH,
    intermediate_dim=172,
    num_query_heads=HEADS,
    num_key_value_heads=KEY_VALUE_HEADS,
    vocabulary_size=512,
    tie_word_embeddings=False,
):
    """A KerasHub `LlamaCausalLM` with random weights, small enough for a CPU.

    The defaults are the dimensions of `stories260k`. It has no preprocessor: it takes
    `{"token_ids", "padding_mask"}` and gives logits `(batch, time, vocabulary)`.

    Args:
        num_layers: Number of transformer layers.
        hidden_dim: Width of the hidden states, a multiple of `2 * num_query_heads`.
        intermediate_dim: Width of the feed-forward part.
        num_query_heads: Attention heads.
        num_key_value_heads: Heads of keys and values; divides `num_query_heads`.
        vocabulary_size: Number of tokens.
        tie_word_embeddings: Whether the output layer is the embedding. KerasHub 0.32
            does not keep this in the configuration: a file of such a model is not read
            back as it was.

    Raises:
        ImportError: KerasHub is not installed.
    """
    keras_hub = _import_keras_hub()
    backbone = keras_hub.models.LlamaBackbone(
        vocabulary_size=vocabulary_size,
        num_layers=num_layers,
        num_query_heads=num_query_heads,
        num_key_value_heads=num_key_value_heads,
        hidden_dim=hidden_dim,
        intermediate_dim=intermediate_dim,
        rope_max_wavelength=10_000,
        layer_norm_epsilon=1e-5,
        tie_word_embeddings=tie_word_embeddings,
    )
    return keras_hub.models.LlamaCausalLM(backbone=backbone)


def stories260k(folder):
    """A. Karpathy's stories260K, trained on TinyStories, as a KerasHub `CausalLM`.

    Args:
        folder: With `weights.npz`, the arrays of `stories260K.bin` in float32, matrices
            as (layer, in, out): `embed` (512, 64), `attn_norm` and `ffn_norm` (5, 64),
            `wq` and `wo` (5, 64, 64), `wk` and `wv` (5, 64, 32), `w1` and `w3`
            (5, 64, 172), `w2` (5, 172, 64), `final_norm` (64,).

    Returns:
        A `keras_hub.models.LlamaCausalLM` of 260,032 parameters, 512 tokens, for up to
        512 positions.

    Raises:
        ImportError: KerasHub is not installed.
        FileNotFoundError: There is no `weights.npz` in the folder.

    Reference:
        https://github.com/karpathy/llama2.c (MIT), `doc/stories260K.md`.
    """
    with np.load(Path(folder) / "weights.npz") as file:
        weights = dict(file)
    model = llama_tiny(len(weights["wq"]), tie_word_embeddings=True)
    for variable in model.backbone.variables:
        variable.assign(_find_value(variable, weights))
    return model


def _find_value(variable, weights):
    """The value of a variable of KerasHub's backbone, by the variable's path."""
    layer, *part = variable.path.split("/")
    if layer == "token_embedding":
        return weights["embed"]
    if layer == "sequence_output_layernorm":
        return weights["final_norm"]
    name = {
        "self_attention/query/kernel": "wq",
        "self_attention/key/kernel": "wk",
        "self_attention/value/kernel": "wv",
        "self_attention/attention_output/kernel": "wo",
        "self_attention_layernorm/scale": "attn_norm",
        "feedforward_gate_dense/kernel": "w1",
        "feedforward_intermediate_dense/kernel": "w3",
        "feedforward_output_dense/kernel": "w2",
        "feedforward_layernorm/scale": "ffn_norm",
    }["/".join(part)]
    value = weights[name][int(layer.rpartition("_")[2])]
    if name in ("wq", "wk"):
        # From pairs of neighbors, which are rotated together, to KerasHub's halves.
        heads = value.reshape(WIDTH, -1, HEAD_WIDTH // 2, 2)
        value = heads.swapaxes(-1, -2)
    return value.reshape(variable.shape)


class LlamaTokenizer:
    """The tokenizer of llama2.c: byte pairs in the order of their scores.

    Args:
        folder: With `tokenizer.json`: `pieces` and `scores`.

    Attributes:
        pieces: The text of each token; single bytes as `<0x00>`.
        start_token_id, end_token_id: 1 and 2.
    """

    start_token_id, end_token_id = 1, 2
    first_byte = 3

    def __init__(self, folder):
        content = json.loads((Path(folder) / "tokenizer.json").read_text())
        self.pieces, self.scores = content["pieces"], content["scores"]
        # Of equal pieces the first: bytes are no text.
        first_text = self.first_byte + 256
        self._ids = {p: i for i, p in reversed([*enumerate(self.pieces)][first_text:])}

    def vocabulary_size(self):
        """Number of tokens."""
        return len(self.pieces)

    def encode(self, text):
        """Token ids of a text, a list, with the start token."""
        tokens = [self._ids[" "]] if text else []
        for character in text:
            if character in self._ids:
                tokens.append(self._ids[character])
            else:
                tokens += [byte + self.first_byte for byte in character.encode()]
        while True:
            pairs = zip(tokens, tokens[1:], strict=False)
            joined = (self.pieces[a] + self.pieces[b] for a, b in pairs)
            candidates = [
                (self.scores[self._ids[piece]], -position)
                for position, piece in enumerate(joined)
                if piece in self._ids
            ]
            if not candidates:
                return [self.start_token_id, *tokens]
            position = -max(candidates)[1]
            piece = "".join(self.pieces[t] for t in tokens[position : position + 2])
            tokens[position : position + 2] = [self._ids[piece]]

    def decode(self, tokens):
        """The text of token ids, without start and end tokens."""
        parts = []
        for token in map(int, tokens):
            if token in (self.start_token_id, self.end_token_id):
                continue
            byte = token - self.first_byte
            is_byte = 0 <= byte < 256
            parts.append(bytes([byte]) if is_byte else self.pieces[token].encode())
        return b"".join(parts).decode(errors="replace").removeprefix(" ")


def _import_keras_hub():
    try:
        import keras_hub
    except ImportError as error:
        raise ImportError(
            "`keras_dtkd.models.llama_tiny` and `stories260k` are models of KerasHub: "
            "`pip install keras-hub`."
        ) from error
    return keras_hub
