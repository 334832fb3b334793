"""A network with further modules on its layers, whose outputs it returns beside its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from deepjuice.hooks.grabbing import ActivationMapGrabber
from deepjuice.hooks.hooks_handle import chosen, copy_tensors
from juicyfruits.errors import InputError

Extensions = Mapping[str, Mapping[str, nn.Module]]


class ModelExtender(ActivationMapGrabber):
    """A network that returns (its output, {name: output of the extension}).

    An extension is a module that is called with the output of a sub-module of the network. Gradients reach the
    extension and all layers before it. Layers come in the order of their registration, and so do the extensions of
    a layer. Keys of the state dictionary begin with `wrapped_model.` and `extension_models.NAME.`. See `HooksHandle`
    for ids and their errors.

    Args:
        model: any module; it becomes `wrapped_model`.
        extensions: {id of the sub-module: {name: module}}; a name is unique in the whole network.
        return_orig_out: if False, a call returns the dictionary alone.

    Raises:
        ValueError: a name is taken, or cannot be a name; an extension is no module.
        KeyError: no sub-module has this id.

    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU())
    >>> extended = ModelExtender(net, {"0": {"total": torch.nn.Linear(2, 1)}})
    >>> output, extra = extended(torch.ones(5, 3))
    >>> output.shape, extra["total"].shape
    (torch.Size([5, 2]), torch.Size([5, 1]))
    """

    def __init__(self, model: nn.Module, extensions: Extensions, return_orig_out: bool = True):
        super().__init__(model)
        self.return_orig_out = return_orig_out
        self.extension_models = nn.ModuleDict()
        self._name_registrations: dict[str, list[str]] = {}
        self.register_extensions(extensions)

    @property
    def name_registrations(self) -> dict[str, list[str]]:
        """{id of the sub-module: names of its extensions}."""
        return {module_id: list(names) for module_id, names in self._name_registrations.items()}

    @property
    def extensions(self) -> dict[str, dict[str, nn.Module]]:
        """{id of the sub-module: {name: extension}}."""
        return {
            module_id: {name: self.extension_models[name] for name in names}
            for module_id, names in self._name_registrations.items()
        }

    @property
    def extension_names(self) -> list[str]:
        """Names of all extensions, in the order of their registration."""
        return list(self.extension_models)

    def register_extensions(self, new_extensions: Extensions) -> None:
        """Add extensions {id: {name: module}}: all of them, or, after an error, none."""
        taken = set(self.extension_models)
        for module_id, models in new_extensions.items():
            for name, model in models.items():
                self._check_extension(name, module_id, model, taken)
                taken.add(name)
            if models:
                self.get_module_by_id(module_id)
        for module_id, models in new_extensions.items():
            for name, model in models.items():
                self.register_submodule(module_id)
                self._name_registrations.setdefault(module_id, []).append(name)
                self.extension_models[name] = model

    def register_extension(self, name: str, module_id: str, model: nn.Module) -> None:
        """Add one extension to a sub-module."""
        self.register_extensions({module_id: {name: model}})

    def unregister_extension(self, name: str) -> None:
        """Remove an extension; after the last one of a sub-module, that is not listened to any more."""
        if name not in self.extension_models:
            raise KeyError(f"Tried to unregister extension of unknown name {name}")
        del self.extension_models[name]
        module_id = next(id_ for id_, names in self._name_registrations.items() if name in names)
        self._name_registrations[module_id].remove(name)
        if not self._name_registrations[module_id]:
            del self._name_registrations[module_id]
            self.unregister_submodule(module_id)

    def unregister_submodule(self, module_id: str) -> None:
        """Listen to a sub-module no more, which must have no extensions."""
        names = self._name_registrations.get(module_id)
        if names:
            raise InputError(f"sub-module {module_id!r} has extensions {names}; unregister these instead.")
        super().unregister_submodule(module_id)

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Any, dict[str, Any]] | dict[str, Any]:
        """Run the wrapped network, and the extensions on its layers; KeyError if it did not call one of these."""
        output, taken = self._run(*args, **kwargs)
        extended: dict[str, Any] = {}
        for module_id, layer_output in chosen(taken, self._name_registrations).items():
            names = list(self._name_registrations[module_id])
            for name in names:  # where there are several, none gets what another may have overwritten in place
                own = copy_tensors(layer_output) if len(names) > 1 else layer_output
                extended[name] = self.extension_models[name](own)
        return (output, extended) if self.return_orig_out else extended

    def _check_extension(self, name: str, module_id: str, model: nn.Module, taken: set[str]) -> None:
        if name in taken:
            raise ValueError(f"Tried to overwrite module under existing name: {name}")
        if not isinstance(model, nn.Module):
            raise ValueError(
                f"Extension item of name {name} to be registered at sub-module {module_id} is not a torch.nn.Module, "
                f"but of type {type(model).__name__}"
            )
        if not isinstance(name, str) or not name or "." in name or hasattr(self.extension_models, name):
            raise InputError(
                f"extension name {name!r} cannot be used: expected a text without '.' that is no attribute of "
                "torch.nn.ModuleDict (such as 'keys'); choose another name."
            )
