"""The call graph: which operation of a network fed which, below the level of modules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, UntypedStorage, nn
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.weak import WeakTensorKeyDictionary

from deepjuice.tracing.events import Call, Event
from deepjuice.tracing.tracer import Tracer, evaluating
from juicyfruits.errors import InputError

CONSTANT = -1  # stands for every tensor that does not depend on the input


@dataclass(frozen=True)
class Source:
    """Stands in an operation's arguments for the output of another operation."""

    index: int


@dataclass(frozen=True, eq=False)
class Operation:
    """One call of a torch function on a network's activations.

    Attributes:
        index: its place in the order of calls; 0 is the input of the network.
        name: the module in which it happens, `features.0`; `layer1.0.add` where it stands between modules.
        kind: name of the function: `conv2d`, `relu`, `add`.
        sources: indices of the operations whose outputs it reads, in the order of its arguments.
        function, args, kwargs: what was called; activations among the arguments are `Source`s, and constants are as
            they were.
        part: which of several outputs this is; 0 of a single one.
        shape: of its output, with the batch.
        path: dotted name of the innermost module that was running; `''` for the network itself.
    """

    index: int
    name: str
    kind: str
    sources: tuple[int, ...]
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    part: int
    shape: tuple[int, ...]
    path: str


class CallGraph:
    """The operations by which a network turns a batch into its output, recorded on one example.

    Modules do not matter here: `+`, `torch.cat` and a function called in `forward` are operations like those that
    modules call. What is computed from parameters alone is a constant.

    Args:
        model: any module whose output is one tensor; it is run in eval mode, and left as it was.
        example: one batch, (n, ...).

    Attributes:
        operations: in the order of their calls; the first is the input, `x_in`.
        output: index of the operation whose output the network returns.
        returned: uid of each call of a module (`Class-depth-index`) -> the operation whose output it returned.

    Raises:
        InputError: for a network that returns several tensors, changes activations where that cannot be followed, or
            takes tensors from elsewhere (numpy, autograd functions of its own).

    >>> import torch
    >>> class Block(nn.Module):
    ...     def forward(self, x):
    ...         return torch.relu(x) + x
    >>> graph = CallGraph(nn.Sequential(nn.Linear(4, 3), Block()), torch.ones(2, 4))
    >>> [(op.name, op.sources) for op in graph.operations]
    [('x_in', ()), ('0', (0,)), ('1', (1,)), ('1.add', (2, 1))]
    """

    def __init__(self, model: nn.Module, example: Tensor):
        self.model = model
        with torch.inference_mode(False), evaluating(model):  # whose tensors have no versions
            recorder = _Recorder(model)
            self.output = recorder.run(example)
        self.operations = recorder.operations
        self.returned = recorder.returned
        self._overwritten: set[int] = set()  # operations whose output a later one changes in place

    def run(self, x: Tensor, keep: Collection[int]) -> dict[int, Tensor]:
        """Put a batch through the network; return the outputs of some operations, by their index.

        Outputs that the network overwrites later are copied in time. Which these are is learnt by a pass that keeps
        them: the first one may be followed by a second.

        Raises:
            InputError: where the network does with this batch what it did not do with the example.
        """
        with torch.inference_mode(False), evaluating(self.model):
            recorder = _Recorder(self.model, self.operations, frozenset(keep), self._overwritten)
            if recorder.run(x) != self.output or len(recorder.operations) != len(self.operations):
                raise InputError(f"input {tuple(x.shape)}: the network ended otherwise than with its example; {_SAME}")
        if changed := recorder.changed_since():
            self._overwritten |= changed
            return self.run(x, keep)
        return recorder.kept


_SAME = "a network whose operations depend on its input cannot be followed; give an example like the inputs."


class _Recorder(TorchFunctionMode):
    """Watches one forward pass; with `known` operations, holds it against them."""

    def __init__(
        self,
        model: nn.Module,
        known: list[Operation] | None = None,
        keep: frozenset[int] = frozenset(),
        copy: Collection[int] = (),
    ):
        super().__init__()
        self.operations: list[Operation] = []
        self.returned: dict[str, int] = {}
        self.kept: dict[int, Tensor] = {}
        self._known, self._keep, self._copy = known, keep, copy
        self._versions: dict[int, int] = {}  # of what is kept uncopied
        self._made: WeakTensorKeyDictionary = WeakTensorKeyDictionary()  # tensor -> (operation, its version then)
        self._written: list[UntypedStorage] = []  # memory of constants into which activations were written
        self._names: Counter[str] = Counter()
        self._named: set[str] = set()  # calls of leaves whose first operation has their name
        self._model, self._tracer = model, None
        self._leaves = {path for path, module in model.named_modules() if not any(module.children())}
        for module in model.modules():
            for tensor in (*module.parameters(False), *module.buffers(False), *vars(module).values()):
                if isinstance(tensor, Tensor):
                    self._made[tensor] = (CONSTANT, None)

    def run(self, x: Tensor) -> int:
        x = x.detach().clone()  # a network may change its input in place
        self._add("x_in", "x_in", (), None, (), {}, [x], "")
        self._tracer = Tracer(self._model, self._module_returned)
        try:
            with self._tracer, self:
                output = self._tracer(x)
        finally:
            self._tracer = None  # or the two would keep each other, and every output, until garbage is collected
        if not isinstance(output, Tensor):
            raise InputError(
                f"output of the network: expected one tensor, got {type(output).__name__}; wrap the network in one "
                "that returns the tensor meant."
            )
        return self._source(output, "the output of the network")

    def changed_since(self) -> set[int]:
        """Return which of the outputs that were kept uncopied have been overwritten."""
        return {index for index, version in self._versions.items() if self.kept[index]._version != version}

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        kind = _kind(function)
        given = [tensor for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)]
        sources = tuple(self._source(tensor, kind) for tensor in given)
        versions = [_version(tensor) for tensor in given]
        returned = function(*args, **kwargs)
        outputs = [value for value in tree_leaves(returned) if isinstance(value, Tensor)]
        followed = tuple(source for source in sources if source != CONSTANT)
        if not followed or kind.startswith("new_") or kind.endswith("_like"):
            for tensor in outputs:
                self._made[tensor] = (CONSTANT, None)
            return returned
        if kind == "setitem":
            raise InputError(f"setitem at {self._path()!r}: activations written into a tensor cannot be followed.")
        for tensor, source, version in zip(given, sources, versions, strict=True):
            if source == CONSTANT and _version(tensor) != version:
                self._written.append(tensor.untyped_storage())
        if not outputs:
            return returned
        replaced = iter([Source(index) if index != CONSTANT else None for index in sources])

        def stand_in(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            source = next(replaced)
            return value if source is None else source

        args, kwargs = tree_map(stand_in, (args, kwargs))
        self._add(self._call(kind), kind, followed, function, args, kwargs, outputs, self._path())
        return returned

    def _add(self, name, kind, sources, function, args, kwargs, outputs: list[Tensor], path: str) -> None:
        for part, tensor in enumerate(outputs):
            index = len(self.operations)
            several = f"[{part}]" if len(outputs) > 1 else ""
            shape = tuple(tensor.shape)
            operation = Operation(index, name + several, kind, sources, function, args, kwargs, part, shape, path)
            if self._known is not None:
                self._check_repeats(operation)
            self.operations.append(operation)
            self._made[tensor] = (index, tensor._version)
            if index in self._keep and index in self._copy:
                self.kept[index] = tensor.detach().clone()
            elif index in self._keep:
                self.kept[index] = tensor.detach()
                self._versions[index] = tensor._version

    def _call(self, kind: str) -> str:
        """Name an operation: by its module alone, if that has no others and this is the first of its call."""
        call = self._innermost()
        name = f"{call.path}.{kind}".lstrip(".") if call else kind
        if call and call.path in self._leaves and call.uid not in self._named:
            self._named.add(call.uid)
            name = call.path or kind
        self._names[name] += 1
        return name if self._names[name] == 1 else f"{name}:{self._names[name]}"

    def _path(self) -> str:
        call = self._innermost()
        return call.path if call else ""

    def _innermost(self) -> Call | None:
        return self._tracer.innermost if self._tracer else None

    def _source(self, tensor: Tensor, where: str) -> int:
        found = self._made.get(tensor)
        if found is None:
            if tensor.ndim == 0:  # a number
                return CONSTANT
            raise InputError(
                f"{where} at {self._path()!r}: a tensor {tuple(tensor.shape)} comes from where it cannot be followed "
                "(numpy, a compiled function, an autograd function of the network's own)."
            )
        if found[0] == CONSTANT and any(_same_memory(tensor, storage) for storage in self._written):
            raise InputError(f"{where} at {self._path()!r}: activations were written into a view of what it reads.")
        if self._changed(tensor):
            name = self.operations[found[0]].name
            raise InputError(f"{where} at {self._path()!r}: the output of {name!r} was changed through a view of it.")
        return found[0]

    def _changed(self, tensor: Tensor) -> bool:
        index, version = self._made.get(tensor, (CONSTANT, None))
        return index != CONSTANT and tensor._version != version

    def _check_repeats(self, operation: Operation) -> None:
        known = self._known[operation.index] if operation.index < len(self._known) else None
        if known is None or any(getattr(known, a) != getattr(operation, a) for a in ("name", "kind", "sources")):
            expected = f"{known.name} ({known.kind})" if known else "the end of the network"
            raise InputError(f"operation {operation.name} ({operation.kind}): expected {expected}; {_SAME}")
        for then, now in zip(_constants(known), _constants(operation), strict=False):
            if then is not now and _differ(then, now):
                raise InputError(
                    f"operation {operation.name} ({operation.kind}): a tensor {tuple(now.shape)} that it takes is not "
                    "what it was with the example, as weights were replaced or numbers are drawn at random; record "
                    "the network as it is now, with a new profiler."
                )

    def _module_returned(self, event: Event) -> None:
        if isinstance(event.output, Tensor) and event.output in self._made:
            self.returned[event.call.uid] = self._made[event.output][0]


def _constants(operation: Operation) -> list[Tensor]:
    """Return the tensors among an operation's arguments that do not depend on the input."""
    return [value for value in tree_leaves((operation.args, operation.kwargs)) if isinstance(value, Tensor)]


def _differ(then: Tensor, now: Tensor) -> bool:
    """Tell whether a constant has changed, but for its device and dtype; those that go with the batch may be larger."""
    if then.shape != now.shape:
        return isinstance(now, nn.Parameter)
    return not torch.equal(then.to(now), now)


def _version(tensor: Tensor) -> int:
    """Return how often a tensor's memory was changed; of those that do not count it, 0."""
    return 0 if tensor.is_inference() else tensor._version


def _same_memory(tensor: Tensor, storage: UntypedStorage) -> bool:
    return tensor.untyped_storage().data_ptr() == storage.data_ptr() != 0


@cache
def _kind(function: Callable[..., Any]) -> str:
    """Return the plain name of a torch function: `add` also for `+` and `+=`, `relu` also for `relu_`."""
    names = (resolve_name(function) or getattr(function, "__name__", "function")).split(".")
    name = names[-2] if names[-1] == "__get__" else names[-1]
    if name.startswith("__"):
        name = name.strip("_")
        name = name[1:] if name[1:] in _OPERATORS and name[0] in "ri" else name
    return name.strip("_") or name


_OPERATORS = ("add", "sub", "mul", "truediv", "matmul", "pow", "div")
