# Which benchmarks there are, and where each comes from: made here, fetched, in a folder as published, or your own.
import pandas as pd

from juicyfruits import versions as data_versions
from juicyfruits.datasets import DATASETS, check_settings
from juicyfruits.nsd.terms import ACCEPTED
from juicyfruits.prepared import ROI_PREFIX


def one_each(name, settings):
    """Benchmarks of one entry of the config: one a session of V4, and one a subject who saw pictures of its own."""
    settings = {"entry": name, **settings}
    sessions = settings.pop("sessions", None)
    if sessions:
        names = dict.fromkeys(map(str, sessions))
        each = [(session, {"session": session}) for session in names]
    elif settings.get("image_set") in ("unique", "all"):
        if not settings.get("subjects"):
            raise WorkflowError(
                f"config: benchmarks: {name}: image_set {settings['image_set']} needs the list `subjects`, "
                "as each of them is a benchmark"
            )
        each = [(subject, {"subjects": [subject]}) for subject in settings["subjects"]]
    else:
        return {name: settings}
    names = [name] if len(each) == 1 else [f"{name}_{label}" for label, _ in each]
    return {made: {**settings, **own} for made, (_, own) in zip(names, each)}


BENCHMARKS = {}
for entry, entry_settings in config["benchmarks"].items():
    for name, settings in one_each(entry, entry_settings).items():
        if name in BENCHMARKS:
            raise WorkflowError(f"config: two benchmarks would be called {name}")
        BENCHMARKS[name] = settings


def release(settings):
    """Where a published data set is: its public address, an address of yours, or a folder."""
    return settings.get("path") or DATASETS[settings["source"]].url


def is_fetched(settings):
    if settings["source"] not in DATASETS:
        return False
    path = release(settings)
    return "://" in path and not path.startswith("file:")


MADE = [
    entry
    for entry, settings in config["benchmarks"].items()
    if settings["source"] == "mini"
]
FETCHED = [
    entry for entry, settings in config["benchmarks"].items() if is_fetched(settings)
]
PREPARED = [
    name for name, settings in BENCHMARKS.items() if settings["source"] != "folder"
]


def benchmark_folder(benchmark):
    """Where a benchmark lies: your own where you have it, a prepared one under data/."""
    settings = BENCHMARKS.get(benchmark) or config["benchmarks"][benchmark]
    own = settings.get("path") if settings["source"] == "folder" else None
    return own or f"{DATA}/{benchmark}"


def check_sources():
    """Refuse what a data set has not, a folder that is not there, and terms not accepted, before anything runs."""
    for name, settings in config["benchmarks"].items():
        try:
            check_settings(settings["source"], settings)
        except InputError as error:
            raise WorkflowError(f"benchmark {name}: {error}") from None
        folder = Path(benchmark_folder(name))
        if settings["source"] == "folder" and not (folder / "stimuli.csv").exists():
            raise WorkflowError(
                f"benchmark {name}: expected a folder with stimuli.csv at {folder}, found none; "
                "docs/bring-your-own.md describes it"
            )
        if settings["source"] in DATASETS and not is_fetched(settings):
            place = release(settings).removeprefix("file://")
            if not Path(place).is_dir():
                raise WorkflowError(
                    f"benchmark {name}: there is no folder {place}; correct `path`, which is a folder or an address "
                    "such as s3://BUCKET or https://HOST/PATH"
                )
        raw = Path(DATA, "raw")
        if (
            is_fetched(settings)
            and DATASETS[settings["source"]].terms
            and not settings.get("accept_terms")
            and not Path(raw, name, ACCEPTED).exists()
            and not Path(raw, f"{name}.fetched.json").exists()
        ):
            raise WorkflowError(
                f"benchmark {name}: the terms of use of {settings['source']} must be accepted once before anything is "
                f"fetched; `juicyfruits fetch {settings['source']} {raw / name}` shows them; then add "
                "`accept_terms: true` to its settings"
            )


check_sources()


def check_rois():
    """Refuse a region that a benchmark has not while its scores are still there: a job that begins removes them."""
    for name, settings in BENCHMARKS.items():
        table = Path(benchmark_folder(name), "neuroids.csv")
        if config["score"]["rois"] and "rois" not in settings and table.exists():
            columns = pd.read_csv(table, nrows=0).columns
            known = [
                c.removeprefix(ROI_PREFIX) for c in columns if c.startswith(ROI_PREFIX)
            ]
            for roi in config["score"]["rois"]:
                if roi not in known:
                    raise WorkflowError(
                        f"config: score: rois: benchmark {name} has no region {roi!r}; {near_names(roi, known)}"
                    )


if workflow.is_main_process:
    check_rois()


def benchmark_inputs(*names):
    """Input of a rule: what the rule prepare makes, or those of your own folder's files that are there."""

    def inputs(wildcards):
        folder = benchmark_folder(wildcards.benchmark)
        if BENCHMARKS[wildcards.benchmark]["source"] != "folder":
            return [folder, f"{DATA}/raw/{wildcards.benchmark}.prepared.json"]
        return [f"{folder}/{name}" for name in names if Path(folder, name).exists()]

    return inputs


def stimuli_settings(benchmark):
    """What decides which pictures a prepared benchmark has: its features depend on these alone, not on its voxels."""
    settings = BENCHMARKS[benchmark]
    if settings["source"] == "folder":
        return ""
    chosen = only(settings, "source", "subjects", "image_set", "session")
    if settings["source"] == "mini":
        chosen |= {"seed": config["seed"], "mini": data_versions.MINI}
    elif not is_fetched(settings):
        chosen["path"] = settings["path"]
    return json.dumps({**chosen, "prepare": data_versions.PREPARE})


def stimuli_input(wildcards):
    """Input of extraction: the benchmark, whatever its age if it is prepared and only other voxels are wanted."""
    benchmark = wildcards.benchmark
    files = benchmark_inputs("stimuli.csv")(wildcards)
    if BENCHMARKS[benchmark]["source"] == "folder":
        return files
    recorded = Path(f"{DATA}/raw/{benchmark}.prepared.json")
    store = FEATURES.format(benchmark=benchmark, model=wildcards.model)
    made = [recorded, Path(store, ".snakemake_timestamp")]
    release = Path(release_input(wildcards))
    same = (
        all(path.exists() for path in [release, *made])
        and recorded.read_text() == stimuli_settings(benchmark)
        and all(path.stat().st_mtime >= release.stat().st_mtime for path in made)
    )
    return ancient(files) if same else files


@cache
def pictures(folder):
    """What tells that pictures of your own folder have changed: names, sizes and times of all of them."""
    files = sorted(
        path
        for path in Path(folder).rglob("*")
        if path.suffix not in (".csv", ".npy", ".npz", ".parquet", ".json")
    )
    seen = [
        (str(path), path.stat().st_size, path.stat().st_mtime_ns)
        for path in files
        if path.is_file()
    ]
    return f"pictures (names, sizes, times): {digest(json.dumps(seen))}"


def own_pictures(wildcards):
    settings = BENCHMARKS[wildcards.benchmark]
    return (
        pictures(benchmark_folder(wildcards.benchmark))
        if settings["source"] == "folder"
        else ""
    )


def release_folder(benchmark):
    """The root of a data set as published: a folder of yours, one that was fetched, or what make-mini writes."""
    settings = BENCHMARKS[benchmark]
    if settings["source"] == "mini" or is_fetched(settings):
        return f"{DATA}/raw/{settings['entry']}"
    return release(settings).removeprefix("file://")


def release_input(wildcards):
    """What says that the data set is there whole: the receipt of a fetch, or the folder."""
    folder = release_folder(wildcards.benchmark)
    return (
        f"{folder}.fetched.json"
        if is_fetched(BENCHMARKS[wildcards.benchmark])
        else folder
    )


def prepare_words(wildcards):
    """The data set's name for `juicyfruits prepare`, its folder, the benchmark's folder, and the options."""
    settings = BENCHMARKS[wildcards.benchmark]
    source = "nsd" if settings["source"] == "mini" else settings["source"]
    return [
        source,
        release_folder(wildcards.benchmark),
        benchmark_folder(wildcards.benchmark),
        *options(
            name=wildcards.benchmark,
            **only(settings, *NSD_CHOICE, *NSD_METHOD, "session", "models"),
        ),
    ]


def n_subjects(wildcards):
    """How many subjects can be prepared side by side."""
    settings = BENCHMARKS[wildcards.benchmark]
    if settings["source"] not in ("mini", "nsd"):
        return 1
    return len(settings.get("subjects", ())) or 2


def prepare_jobs(wildcards, threads):
    """Side by side changes no number, and so is a resource."""
    source = BENCHMARKS[wildcards.benchmark]["source"]
    return f"--jobs {threads}" if source in ("mini", "nsd") else ""


def fetch_words(wildcards):
    """The data set's name for `juicyfruits fetch`, the folder, the address, and what is needed of it."""
    settings = config["benchmarks"][wildcards.entry]
    chosen = only(settings, *NSD_CHOICE, "sessions")
    return [
        settings["source"],
        f"{DATA}/raw/{wildcards.entry}",
        *options(**{"from": release(settings)}, **chosen),
    ]


NSD_CHOICE = ("subjects", "image_set", "rois", "beta_version", "space")
NSD_METHOD = ("ncsnr_threshold", "repeats")


def only(settings, *keys):
    return {key: settings[key] for key in keys if key in settings}
