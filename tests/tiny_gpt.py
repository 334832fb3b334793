"""A small language model of the GPT kind, in plain torch, and a tokenizer of words."""

import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, width: int, n_heads: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, n_heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x, forbidden):
        y = self.norm1(x)
        x = x + self.attention(y, y, y, attn_mask=forbidden, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class TinyGPT(nn.Module):
    """Token and position embeddings, two blocks of causal attention, and a head that shares the embedding's weights."""

    def __init__(self, n_words: int = 32, n_places: int = 16, width: int = 8, n_heads: int = 2):
        super().__init__()
        self.words = nn.Embedding(n_words, width)
        self.places = nn.Embedding(n_places, width)
        self.blocks = nn.ModuleList([Block(width, n_heads) for _ in range(2)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, n_words, bias=False)
        self.head.weight = self.words.weight

    def forward(self, input_ids, attention_mask):
        # padding comes after the words, where causal attention cannot see it
        n_tokens = input_ids.shape[1]
        forbidden = torch.ones(n_tokens, n_tokens, dtype=torch.bool, device=input_ids.device).triu(1)
        x = self.words(input_ids) + self.places(torch.arange(n_tokens, device=input_ids.device))
        for block in self.blocks:
            x = block(x, forbidden)
        return self.head(self.norm(x))


def split_words(texts: list[str]) -> dict[str, torch.Tensor]:
    """Number the words of texts by their letters, padded on the right with 0 to the longest of these texts."""
    ids = [[1 + sum(map(ord, word)) % 31 for word in text.split()] for text in texts]
    longest = max(map(len, ids))
    padded = torch.tensor([[*row, *[0] * (longest - len(row))] for row in ids])
    return {"input_ids": padded, "attention_mask": (padded != 0).long()}
