"""A small GPT on the characters of scikit-learn's data set descriptions, English prose that is already installed.

sweep run recipe=gpt:recipe --seeds 0-4
sweep run recipe=gpt:recipe params.layers=1,2 --seeds 0-4 && sweep compare runs/gpt
"""

from pathlib import Path

import sklearn
import torch
from torch import nn
from torch.nn import functional as F

import sweep


class Block(nn.Module):
    """Causal attention and a feed-forward layer, each with a residual connection."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(dropout)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = self.mix(self.before(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        dropped = self.dropout if self.training else 0.0
        seen = F.scaled_dot_product_attention(query, key, value, is_causal=True, dropout_p=dropped)
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        return x + self.feed(self.between(x))


class GPT(nn.Module):
    """Token ids (batch, length) -> logits of the next one (batch, length, vocabulary); embedding and head are tied."""

    def __init__(self, vocabulary: int, length: int, width: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary, width)
        self.place = nn.Parameter(torch.randn(length, width) * 0.02)
        nn.init.normal_(self.token.weight, std=0.02)
        self.blocks = nn.Sequential(*(Block(width, heads, dropout) for _ in range(layers)), nn.LayerNorm(width))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return F.linear(self.blocks(self.token(ids) + self.place), self.token.weight)


def recipe(
    *, length: int = 64, width: int = 64, layers: int = 2, heads: int = 4, dropout: float = 0.1, lr: float = 0.003,
    epochs: int = 10,
) -> sweep.Recipe:  # fmt: skip
    folder = Path(sklearn.__file__).parent / "datasets" / "descr"
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.rst")))
    return sweep.recipe(
        model=lambda data: GPT(data.vocabulary, length, width, layers, heads, dropout),
        data=sweep.data.text(text, length), loss="token-cross-entropy", optimizer=sweep.adamw(lr=lr, weight_decay=0.1),
        schedule={"name": "cosine", "warmup": 0.1}, clip=1.0, epochs=epochs, batch_size=32,
    )  # fmt: skip
