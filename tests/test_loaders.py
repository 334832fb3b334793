import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from deepjuice import get_data_loader
from juicyfruits.errors import InputError
from juicyfruits.picture_file import write_pictures
from tests.tiny_gpt import split_words


def to_tensor(picture):
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float()


@pytest.fixture
def paths(tmp_path):
    for value in range(5):
        Image.new("L" if value % 2 else "RGB", (4, 3), value if value % 2 else (value, 9, 9)).save(
            tmp_path / f"{value}.png"
        )
    return sorted(tmp_path.iterdir())


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_order_as_rgb_and_the_last_is_what_is_left(paths, workers):
    batches = list(get_data_loader(paths, to_tensor, batch_size=2, num_workers=workers))
    assert [tuple(batch.shape) for batch in batches] == [(2, 3, 3, 4), (2, 3, 3, 4), (1, 3, 3, 4)]
    assert torch.cat(batches)[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("as_table", [False, True])
def test_pictures_in_one_hdf5_are_the_same(paths, tmp_path, workers, as_table):
    pictures = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    write_pictures(tmp_path / "images.hdf5", 5, zip("abcde", pictures, strict=True))
    rows = [f"{tmp_path}/images.hdf5#{row}" for row in (3, 0, 4, 1, 2)]
    inputs = pd.DataFrame({"subject": "s", "image_path": rows}) if as_table else rows
    batches = list(get_data_loader(inputs, to_tensor, batch_size=2, num_workers=workers))
    expected = torch.stack([to_tensor(pictures[row]) for row in (3, 0, 4, 1, 2)])
    torch.testing.assert_close(torch.cat(batches), expected, rtol=0, atol=0)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_picture_is_named(paths, workers):
    paths[3].write_text("no picture")
    with pytest.raises(InputError, match=r"3.png"):
        list(get_data_loader(paths, to_tensor, batch_size=2, num_workers=workers))


def test_no_paths_is_an_error():
    for paths in ([], "picture.png"):
        with pytest.raises(InputError, match="at least one"):
            get_data_loader(paths, to_tensor)


def test_pictures_of_different_sizes_are_told(tmp_path):
    for size in (4, 5):
        Image.new("RGB", (size, 4)).save(tmp_path / f"{size}.png")
    with pytest.raises(InputError, match=r"one size after preprocessing, got \(3, 4, 4\) and \(3, 4, 5\)"):
        list(get_data_loader(sorted(tmp_path.iterdir()), to_tensor))


TEXTS = ["a dog", "the old cat sleeps", "rain", "one two three"]


class WordTokenizer:
    """As Hugging Face tokenizers are called: it notes how, and numbers words."""

    pad_token = "[PAD]"

    def __init__(self):
        self.asked = []

    def convert_tokens_to_ids(self, tokens):
        raise AssertionError("not needed")

    def __call__(self, texts, **how):
        self.asked.append(how)
        return split_words(texts)


def test_texts_become_dictionaries_of_tensors_in_order_each_batch_as_long_as_its_longest():
    loader = get_data_loader(TEXTS, split_words, batch_size=3, input_modality="text")
    first, second = loader
    assert first["input_ids"].shape == (3, 4) and second["input_ids"].shape == (1, 3)
    assert first["attention_mask"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]]
    assert torch.equal(first["input_ids"], split_words(TEXTS[:3])["input_ids"])
    of_series = get_data_loader(pd.Series(TEXTS), split_words, batch_size=3, input_modality="text")
    assert torch.equal(list(of_series)[1]["input_ids"], second["input_ids"])


def test_hugging_face_tokenizers_are_asked_to_pad_to_cut_and_for_tensors():
    tokenizer = WordTokenizer()
    next(iter(get_data_loader(TEXTS, tokenizer, input_modality="text")))
    next(iter(get_data_loader(TEXTS, tokenizer, input_modality="text", max_length=7)))
    assert tokenizer.asked == [
        {"padding": True, "truncation": True, "return_tensors": "pt"},
        {"padding": "max_length", "truncation": True, "return_tensors": "pt", "max_length": 7},
    ]
    tokenizer.pad_token = None
    with pytest.raises(InputError, match=r"without a padding token; set tokenizer.pad_token"):
        get_data_loader(TEXTS, tokenizer, input_modality="text")


def test_what_is_no_text_or_no_tokenizer_is_told(paths):
    with pytest.raises(InputError, match=r"expected strings, got nan of type float in row 1"):
        get_data_loader(["a", float("nan")], split_words, input_modality="text")
    with pytest.raises(InputError, match="expected a Hugging Face tokenizer"):
        get_data_loader(TEXTS, split_words, input_modality="text", max_length=4)
    with pytest.raises(InputError, match="give input_modality='text'"):
        get_data_loader(paths, WordTokenizer())
    with pytest.raises(InputError, match="expected one of 'image', 'text'"):
        get_data_loader(paths, to_tensor, input_modality="video")
    for wrong in ({"batch_size": 0}, {"num_workers": -1}, {"max_length": 0}):
        with pytest.raises(InputError, match="expected at least"):
            get_data_loader(TEXTS, WordTokenizer(), input_modality="text", **wrong)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ([[1]] * 4, "expected tensors by name, got list"),
        ({}, "expected tensors by name"),
        ({"ids": [[1]] * 4}, "'ids' to be a tensor with 4 rows, one a text, got list"),
        ({"ids": torch.zeros(3, 2)}, r"with 4 rows, one a text, got \[3, 2\]"),
    ],
)
def test_a_tokenizer_that_gives_something_else_is_told(made, said):
    with pytest.raises(InputError, match=said):
        list(get_data_loader(TEXTS, lambda texts: made, input_modality="text"))
