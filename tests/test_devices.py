"""Devices are meant literally."""

import pytest
import torch

from deepjuice.devices import cuda_device_report, get_device, get_device_id, get_device_name
from juicyfruits.errors import InputError


def test_cpu_is_always_there():
    assert get_device("cpu") == get_device("CPU") == get_device(torch.device("cpu")) == torch.device("cpu")
    assert get_device_name("cpu") == "CPU"
    assert get_device_name(torch.device("cuda", 1)) == "CUDA:1" == get_device_name(1)
    assert get_device_name("cuda") == "CUDA:0"


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cpuu", "cuda:-1", -1])
def test_unknown_names(name):
    with pytest.raises(InputError, match="The device must be 'auto'"):
        get_device(name)


def test_a_missing_device_is_an_error_and_no_fallback(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert get_device() == torch.device("cpu")
    for name in ("cuda", "cuda:0", 0, "mps", torch.device("cuda")):
        with pytest.raises(InputError, match="choose 'cpu' or 'auto'"):
            get_device(name)
    assert list(cuda_device_report().columns) == ["Device", "Name", "Total Memory", "Free Memory"]
    assert len(cuda_device_report()) == 0 and cuda_device_report(to_pandas=False) == []


def test_a_device_counts_as_its_tensors_do():
    assert get_device_id("cpu") == torch.ones(1).get_device() == -1
    assert get_device_id("cuda:1") == get_device_id(1) == get_device_id(torch.device("cuda", 1)) == 1
    assert get_device_id("mps") == 0
    for name in ("gpu", "cuda:x"):
        with pytest.raises(InputError, match=f"The device must be 'cpu', 'cuda', 'cuda:N' or 'mps', but '{name}' came"):
            get_device_id(name)


def test_two_cuda_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: f"Card {number}")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda number: (2**30, 2**33))
    assert get_device("auto") == get_device("cuda") == torch.device("cuda", 1) == get_device(1)
    assert get_device("cuda:0") == torch.device("cuda", 0)
    assert get_device_id("cuda") == 1 and get_device_id("cuda:0") == 0
    with pytest.raises(InputError, match="'cuda:0' to 'cuda:1'"):
        get_device("cuda:2")
    assert cuda_device_report()["Total Memory"].tolist() == [8.0, 8.0]
    assert cuda_device_report(to_pandas=False)[1]["Name"] == "Card 1"
