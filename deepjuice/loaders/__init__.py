"""From tables, picture files or texts to batches."""

from deepjuice.loaders.data_loader import get_data_loader
from deepjuice.loaders.datasets import ImageDataset, Preprocess, TextDataset, Tokenizer

__all__ = ["ImageDataset", "Preprocess", "TextDataset", "Tokenizer", "get_data_loader"]
