"""Networks by name: what there is, and how each is loaded and fed."""

from deepjuice.model_zoo.image_size import check_takes, with_image_size
from deepjuice.model_zoo.registry import (
    ModelCard,
    get_deepjuice_model,
    get_model_card,
    get_model_options,
    require_modality,
)

__all__ = [
    "ModelCard",
    "check_takes",
    "get_deepjuice_model",
    "get_model_card",
    "get_model_options",
    "require_modality",
    "with_image_size",
]
