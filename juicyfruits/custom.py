"""NSDBenchmarkCustom: a benchmark from three tables of one's own, as DeepNSD's scripts keep them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from juicyfruits import arrays, prepared
from juicyfruits.benchmark import Benchmark
from juicyfruits.errors import InputError, first_names
from juicyfruits.files import digest, reading

TABLES = ("response_data", "response_meta", "stimulus_data")
NEUROID_KEYS = ("voxel_id", "neuroid_id")
SUBJECT_KEYS = ("subject", "subj_id")


class NSDBenchmarkCustom(Benchmark):
    """A benchmark from tables (.csv or .parquet): responses, what is known of the voxels, and the stimuli.

    Args:
        file_paths: the three files.
            `response_data`: a row a voxel, a column a stimulus, the mean responses.
            `response_meta`: a row a voxel: `metadata_keys`, and every other column an ROI, 1/0 or true/false. Columns
            of ROIs without voxels are dropped.
            `stimulus_data`: a row a stimulus. The columns of the responses must be the values of one of its columns,
            such as image_name, or row numbers 0, 1, ...; these become `stimulus_id`, in the responses' order.
        metadata_keys: the columns of `response_meta` that are no ROIs; `subject` or `subj_id` must be among them.

    Voxels are matched by the column `voxel_id` or `neuroid_id`, else by the first column. `add_image_data` adds the
    pictures; without them all that needs no picture works. `save` writes a folder for the workflow.

    Raises `InputError` for tables that do not fit together, and for what `Benchmark` refuses.

    Example:
        >>> files = {"response_data": "betas.csv", "response_meta": "metas.csv", "stimulus_data": "shared1000.csv"}
        >>> benchmark = NSDBenchmarkCustom(files, ["subj_id", "ncsnr"])  # doctest: +SKIP
        >>> benchmark.add_image_data(image_root="shared1000")  # doctest: +SKIP
    """

    def __init__(self, file_paths: Mapping[str, str | Path], metadata_keys: Sequence[str]):
        if set(file_paths) != set(TABLES):
            raise InputError(f"file_paths must name {', '.join(TABLES)}, but names {', '.join(file_paths) or 'none'}")
        self.files = {table: Path(file_paths[table]) for table in TABLES}
        self.folder = self.files["response_data"].parent
        metadata, rois = _read_metadata(self.files["response_meta"], metadata_keys)
        path = self.files["response_data"]
        table = arrays.match_ids(path, _read_indexed(path), 0, metadata.index, self.files["response_meta"].name)
        stimuli = _read_stimuli(self.files["stimulus_data"], list(table.columns))
        responses = arrays.check_responses(path, table.to_numpy()[:, :, None], metadata.index, stimuli["stimulus_id"])
        prepared.check_repeats(self.files["stimulus_data"], stimuli, list(metadata["subject"].unique()), 1)
        metadata = arrays.with_ncsnr(metadata, responses)
        self._hold(path.stem, stimuli, metadata=metadata, rois=rois, responses=responses)

    def add_image_data(self, image_root: str | Path, image_key: str = "image_name") -> None:
        """Add the pictures, files under `image_root` that the stimuli's column `image_key` names; all must be there."""
        if image_key not in self.stimulus_data:
            raise InputError(
                f"the stimuli have no column {image_key!r}, only {first_names(self.stimulus_data, 8)}; name the one "
                "that holds the pictures' file names as image_key"
            )
        paths = [Path(image_root, str(name)) for name in self.stimulus_data[image_key]]
        missing = [path.name for path in paths if not path.is_file()]
        if missing:
            raise InputError(f"{image_root} lacks {len(missing)} of {len(paths)} pictures: {first_names(missing)}")
        self.stimulus_data = self.stimulus_data.assign(image_path=[str(path.resolve()) for path in paths])
        for cached in ("digest", "stimulus_digest"):
            self.__dict__.pop(cached, None)

    @property
    def image_paths(self) -> list[str]:
        """Absolute paths of the pictures, in the order of the stimuli."""
        if "image_path" not in self.stimulus_data:
            raise InputError(f"benchmark {self.name!r} has no pictures yet; call add_image_data(image_root)")
        return super().image_paths

    def _content_digest(self) -> str:
        pictures = [self.stimulus_digest] if "image_path" in self.stimulus_data else []
        return digest(*self.files.values(), *pictures)


def _read_metadata(path: Path, keys: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    table = _read_indexed(path).rename_axis("neuroid_id")
    absent = [key for key in keys if key not in table]
    if absent:
        raise InputError(f"{path} lacks the column {absent[0]!r} of metadata_keys; it has {first_names(table, 8)}")
    subject = next((key for key in SUBJECT_KEYS if key in keys), None)
    if subject is None:
        got = first_names(keys, 8) or "empty"
        raise InputError(f"metadata_keys must have {' or '.join(SUBJECT_KEYS)}, but are {got}")
    if (nameless := table[subject].isna() | (table[subject] == "")).any():
        voxels = first_names(table.index[nameless])
        raise InputError(f"{path}: column {subject!r} must name every voxel's subject, but is empty for {voxels}")
    prepared.check_unique(path, table.index.to_series())
    prepared.check_numbers(path, table[list(keys)])
    metadata = table[list(keys)].assign(subject=table[subject].astype(str))
    rois = []
    for name in table.columns.drop(list(keys)):
        try:
            flags = prepared.as_bool(path, table[name])
        except InputError as error:
            raise InputError(f"{error}; if it is no ROI, name it in metadata_keys") from None
        if flags.any():
            rois.append(name)
            metadata[name] = flags
    if not rois:
        raise InputError(f"{path} has no ROI columns with voxels besides {first_names(keys, 8)}; add one")
    return metadata, rois


def _read_stimuli(path: Path, stimulus_ids: list[str]) -> pd.DataFrame:
    """Return the table of stimuli in the order of their ids, found in one of its columns or as row numbers."""
    table = _read(path)
    columns = {name: table[name].astype(str) for name in table} | {"row number": table.index.astype(str)}
    fitting = {name: list(values) for name, values in columns.items() if sorted(values) == sorted(stimulus_ids)}
    if not fitting:
        raise InputError(
            f"{path}: no column holds the stimuli that the responses name ({len(stimulus_ids)}: "
            f"{first_names(stimulus_ids)}); its {len(table)} rows have {first_names(table, 8)}"
        )
    ids = next(iter(fitting.values()))
    if any(other != ids for other in fitting.values()):
        raise InputError(
            f"{path}: the stimuli that the responses name are those of {' and of '.join(map(repr, fitting))}, in other "
            "orders; call the responses' columns by the pictures' names"
        )
    table = table.drop(columns="stimulus_id", errors="ignore").set_index(pd.Index(ids))
    table = table.loc[stimulus_ids].reset_index(drop=True)
    table.insert(0, "stimulus_id", stimulus_ids)
    prepared.check_unique(path, table["stimulus_id"])
    prepared.check_split(path, table)
    return table


def _read_indexed(path: Path) -> pd.DataFrame:
    """Read a table of voxels, with their ids, as text, for its index."""
    table = _read(path, text=True)
    key = next((name for name in NEUROID_KEYS if name in table), table.columns[0])
    table = table.set_index(key)
    table.index, table.columns = table.index.astype(str), table.columns.astype(str)
    return table


def _read(path: Path, text: bool = False) -> pd.DataFrame:
    with reading(path, "a table"):
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
            return table if isinstance(table.index, pd.RangeIndex) else table.reset_index()
        ids = {name: str for name in NEUROID_KEYS} | {0: str} if text else {}
        return pd.read_csv(path, converters=ids)
