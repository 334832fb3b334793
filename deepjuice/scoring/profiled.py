"""Which maps of a feature store are layers of influence profiles."""

from __future__ import annotations

from collections.abc import Sequence

from deepjuice.extraction.store import FeatureStore
from deepjuice.influence.neuron_sets import NeuronSets
from juicyfruits.errors import InputError


def profiled_maps(store: FeatureStore, profiles: NeuronSets | None, metrics: Sequence[str]) -> dict[str, int]:
    """Return uid of a map -> the profile's layer whose activation it is; maps that are none are left out.

    Raises:
        InputError: where pRSA is among the metrics and there are no profiles, or they are of another model,
            preprocessing or stimuli; where it is not among them and there are profiles.
    """
    if "pRSA" not in metrics:
        if profiles is not None:
            raise InputError(
                f"profiles of {profiles.header.model_uid}: none of the metrics {', '.join(metrics)} reads them; add "
                "pRSA to them (--metrics), or leave the profiles (--profiles) out."
            )
        return {}
    if profiles is None:
        raise InputError("metric pRSA: there are no profiles; run deepjuice profile and give its file as --profiles.")
    for name in ("model_uid", "weights_digest", "preprocessing", "stimulus_digest", "n_stimuli"):
        ours, theirs = getattr(store.header, name), getattr(profiles.header, name)
        if ours != theirs:
            raise InputError(
                f"profiles of {profiles.header.model_uid}: their {name} is {theirs!r}, that of the features {ours!r}; "
                "run deepjuice extract and deepjuice profile with the same model, pictures and settings."
            )
    first = {record.uid: record.alias_of or record.uid for record in store.header.maps}
    found: dict[str, int] = {}
    for layer in profiles.header.layers[1:]:
        for uid in layer.uids:
            if uid in first:
                found.setdefault(first[uid], layer.index)
    return found
