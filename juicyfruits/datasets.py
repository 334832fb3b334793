"""The public data sets that juicyfruits fetches: where they lie, whom to cite, and on what terms they are given."""

from __future__ import annotations

from dataclasses import dataclass

from juicyfruits.nsd.terms import TERMS


@dataclass(frozen=True)
class Dataset:
    """What is said about a public data set before it is fetched, and in the benchmarks made of it.

    Attributes:
        name, title: the name in commands and configs, and one line for people.
        url: the default source, as `juicyfruits.remote.open_source` understands it.
        citation, doi: the paper to cite.
        licence: on what terms the data are given, in one line.
        terms: the text to be accepted once before fetching; None where there is nothing to accept.
        size: how much a fetch brings, in words.
    """

    name: str
    title: str
    url: str
    citation: str
    doi: str
    licence: str
    terms: str | None
    size: str

    @property
    def info(self) -> dict[str, str]:
        """What benchmark.json says of the data set in every benchmark made of it."""
        return {"dataset": self.name, "source": f"{self.citation} doi:{self.doi}", "licence": self.licence}


_ALL = (
    Dataset(
        name="nsd",
        title="Natural Scenes Dataset: 7T fMRI of eight people who saw up to 10,000 pictures three times",
        url="s3://natural-scenes-dataset",
        citation="Allen, St-Yves, Wu et al. 2022, A massive 7T fMRI dataset to bridge cognitive neuroscience and "
        "artificial intelligence, Nature Neuroscience 25, 116-126.",
        doi="10.1038/s41593-021-00962-x",
        licence="NSD Terms and Conditions; the pictures are from COCO and keep their own licences",
        terms=TERMS,
        size="tens of GB a subject",
    ),
    Dataset(
        name="kriegeskorte92",
        title="92 objects: dissimilarities in human IT (four people, fMRI) and monkey IT (674 neurons)",
        url="https://raw.githubusercontent.com/rsagroup/rsatoolbox/main",
        citation="Kriegeskorte, Mur, Ruff, Kiani, Bodurka, Esteky, Tanaka & Bandettini 2008, Matching categorical "
        "object representations in inferior temporal cortex of man and monkey, Neuron 60(6), 1126-1141.",
        doi="10.1016/j.neuron.2008.10.043",
        licence="MIT, the licence of the repository that gives the files",
        terms=None,
        size="a few MB",
    ),
    Dataset(
        name="cowley_v4",
        title="Macaque V4: single neurons of three monkeys, 50 sessions of 400 to 3,000 pictures",
        # HEAD is GitHub's name for a repository's default branch, whatever it is called
        url="https://raw.githubusercontent.com/cowleygroup/V4_compact_models/HEAD",
        citation="Cowley, Stan, Pillow & Smith 2023, Compact deep neural network models of visual cortex, bioRxiv "
        "(Nature 2026, doi:10.1038/s41586-026-10150-1).",
        doi="10.1101/2023.11.22.568315",
        licence="GPL-3.0, the licence of the repository that gives the files",
        terms=None,
        size="a few MB a session",
    ),
)
DATASETS: dict[str, Dataset] = {dataset.name: dataset for dataset in _ALL}


def check_settings(source: str, settings: dict) -> None:
    """Raise `InputError` for subjects, regions, betas or sessions that a data set has not, before anything is fetched.

    `settings` are those of a benchmark in the configuration; what is absent is not checked.

    >>> check_settings("nsd", {"subjects": ["subj09"]})
    Traceback (most recent call last):
    juicyfruits.errors.InputError: unknown subject 'subj09'; did you mean 'subj08' or 'subj07' or 'subj06'?
    """
    if source in ("nsd", "mini"):
        from juicyfruits.nsd import layout, rois

        layout.check_subjects(settings.get("subjects", ()))
        rois.named_rois(settings.get("rois", ()))
        layout.check_betas(
            settings.get("beta_version", layout.DEFAULT_BETAS), settings.get("space", layout.DEFAULT_SPACE)
        )
    if source == "cowley_v4":
        from juicyfruits.cowley_v4 import find_session

        for session in settings.get("sessions", ()):
            find_session(session)
