"""What a model and a preprocessing compute, as short texts: equal ones mean that a store need not be made again."""

from __future__ import annotations

import hashlib
import inspect
from types import FunctionType
from uuid import uuid4

import torch
from torch import nn

from deepjuice.loaders import Preprocess

PLAIN = (bool, int, float, str, tuple, type(None))


def weights_digest(model: nn.Module) -> str:
    """Return a short SHA-256 (16 hex digits) of a model: weights, buffers, plain attributes, and code of its own.

    Two networks of the same weights may compute different things: a slope, an eps, another forward.
    """
    sha = hashlib.sha256()
    sources = {type(module): _code(type(module)) for module in model.modules()}
    for name, module in model.named_modules():
        plain = {key: value for key, value in vars(module).items() if isinstance(value, PLAIN) and key != "training"}
        sha.update(f"{name} {type(module).__qualname__} {sorted(plain.items())} {sources[type(module)]}".encode())
    for name, tensor in model.state_dict().items():
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()[:16]


def preprocessing_text(preprocess: Preprocess) -> str:
    """Describe a preprocessing by what it does: an object by its `repr`, a function by its source.

    What cannot be known so (a closure, defaults, globals that are no modules, a Lambda among transforms) gets a text of
    its own each time, so that no store of it is ever taken for the same.
    """
    if not isinstance(preprocess, FunctionType):
        text = repr(preprocess)
        return f"{text} {uuid4()}" if "Lambda(" in text else text
    known = preprocess.__globals__
    read = [known[name] for name in preprocess.__code__.co_names if name in known]
    fixed = all(inspect.ismodule(value) or isinstance(value, type) or inspect.isbuiltin(value) for value in read)
    source = _source(preprocess)
    if source and fixed and not (preprocess.__closure__ or preprocess.__defaults__ or preprocess.__kwdefaults__):
        return f"{preprocess.__module__}.{preprocess.__qualname__} {hashlib.sha256(source.encode()).hexdigest()[:16]}"
    return f"{preprocess.__qualname__} {uuid4()}"


def _code(kind: type[nn.Module]) -> str:
    """Return what a class of modules does: its source, and its forward as compiled, should another have its name."""
    compiled = getattr(kind.forward, "__code__", None)
    if compiled is None or kind.__module__.startswith("torch."):
        return _source(kind)
    constants = [value for value in compiled.co_consts if isinstance(value, PLAIN)]
    return f"{_source(kind)} {compiled.co_code.hex()} {constants} {compiled.co_names}"


def _source(code: type | FunctionType) -> str:
    """Return the source of a class or function; nothing for torch's own, which its version stands for."""
    if code.__module__.startswith("torch."):
        return torch.__version__
    try:
        return inspect.getsource(code)
    except (OSError, TypeError):  # typed at a prompt
        return ""
