"""The list of all models, and the way to get one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from difflib import get_close_matches
from functools import cache

import pandas as pd

from deepjuice.model_zoo import offline, sentence_models, torchvision_models
from deepjuice.model_zoo.cards import Loaded, ModelCard
from juicyfruits.errors import InputError, near_names

SOURCES = (offline, sentence_models, torchvision_models)


@cache
def all_cards() -> dict[str, ModelCard]:
    """Return every card by uid, source after source."""
    return {card.uid: card for source in SOURCES for card in source.cards()}


def get_model_card(model_uid: str) -> ModelCard:
    """Return one model's card.

    Raises:
        InputError: for an unknown uid, with the names that look like it.
    """
    cards = all_cards()
    if model_uid not in cards:
        raise InputError(
            f"model {model_uid!r} is not in the registry: {_hint(model_uid)} `deepjuice models` lists all."
        )
    return cards[model_uid]


def _hint(model_uid: str) -> str:
    """Look among the architectures first: `alexnt` is nearer to alexnet than to torchvision_alexnet_random."""
    cards = all_cards()
    near = get_close_matches(model_uid, {card.architecture for card in cards.values()}, n=1)
    uids = [uid for uid, card in cards.items() if card.architecture in near]
    return near_names(near[0], uids) if near else near_names(model_uid, cards)


def get_deepjuice_model(model_uid: str, seed: int = 0) -> Loaded:
    """Load a model and the preprocessing it was trained with.

    Args:
        model_uid: a name of `get_model_options`.
        seed: for the weights of untrained twins (`..._random`); other models do not use it.

    Returns:
        `(model, preprocess)`: a module in eval mode on the CPU, and a function from a PIL picture to a
        tensor (channel, height, width); for a text model (column `modality`) a tokenizer, which `get_data_loader`
        takes with `input_modality='text'`.

    Raises:
        InputError: for an unknown uid, when weights can neither be found nor downloaded, or when the package that
            brings them is not installed.

    >>> model, preprocess = get_deepjuice_model("efficientnet_lite0_random")
    >>> type(model).__name__
    'EfficientNet'
    """
    model, preprocess = get_model_card(model_uid).load(seed)
    return model.eval(), preprocess


def require_modality(model_uid: str, modality: str) -> None:
    """Refuse a model that takes something else than the inputs at hand.

    Raises:
        InputError: for an unknown uid or a model of another modality.

    >>> require_modality("efficientnet_lite0_random", "image")
    """
    card = get_model_card(model_uid)
    if card.modality != modality:
        raise InputError(
            f"model {model_uid!r}: expected one that takes {modality}s, got one that takes {card.modality}s; "
            f"`deepjuice models modality={modality}` lists those that do."
        )


def get_model_options(
    filters: Mapping[str, str] | None = None, output: str = "dataframe", exact_match: bool = False
) -> pd.DataFrame | list[str]:
    """List the models, all or those whose columns match.

    Args:
        filters: column -> text, e.g. `{"source": "torchvision", "architecture": "resnet"}`.
        output: `'dataframe'` for the cards, `'list'` for the uids.
        exact_match: whether the text must be the column's whole value; otherwise a part of it, in any case.

    Returns:
        A DataFrame with a row a model, or a list of uids.

    >>> get_model_options({"source": "offline"}, output="list")
    ['efficientnet_lite0_imagenet1k', 'efficientnet_lite0_random']
    """
    table = pd.DataFrame([_row(card) for card in all_cards().values()]).rename(columns={"uid": "model_uid"})
    for column, text in (filters or {}).items():
        if column not in table:
            raise InputError(f"column {column!r} of the model table: {near_names(column, table.columns)}")
        values = table[column]
        match = values == text if exact_match else values.str.contains(text, case=False, regex=False)
        table = table[match]
    if output == "list":
        return table["model_uid"].tolist()
    if output != "dataframe":
        raise InputError(f"output={output!r}: expected 'dataframe' or 'list'.")
    return table.reset_index(drop=True)


def _row(card: ModelCard) -> dict[str, str]:
    return {name: value for name, value in asdict(card).items() if name != "load"}
