# Memory (MB) and time (minutes) that jobs ask a cluster for; a job that was ended for want of them asks for more.
from deepjuice.sizes import parse_bytes

try:
    limit = config["extract"]["memory_limit"]
    EXTRACT_LIMIT = None if limit is None else parse_bytes(limit)
except InputError as error:
    raise WorkflowError(f"config: extract: {error}") from None


def extract_limit(wildcards, attempt):
    """The most bytes that extraction may hold, which the plan of its memory keeps to."""
    return f"--memory-limit {EXTRACT_LIMIT * attempt}" if EXTRACT_LIMIT else ""


def extract_mb(wildcards, attempt):
    """The limit, a third of it for the processes that load pictures, and what Snakemake itself holds."""
    return int((EXTRACT_LIMIT or 6 * 2**30) * 4 / 3 / 2**20 + 500) * attempt


def extract_minutes(wildcards, attempt):
    """Half an hour, and 50 pictures a minute: a large network without a GPU."""
    return (30 + n_stimuli(wildcards.benchmark) // 50) * attempt


def score_mb(wildcards, attempt):
    """A base, a number of copies of the responses and of a map, and of the RDMs of all regions of all subjects."""
    n = n_stimuli(wildcards.benchmark)
    rdms = n_cells(wildcards.benchmark) * n**2 * 4 / 2**20
    copies = 3 * responses_mb(wildcards.benchmark) + n * 0.2
    return int(3000 + copies + 8 * rdms) * attempt


def score_minutes(wildcards, attempt):
    """What a thousand maps against the responses take at most, divided among the parts."""
    return int(30 + 2 * responses_mb(wildcards.benchmark) / N_PARTS) * attempt


def n_stimuli(benchmark):
    """Pictures of a benchmark; 0 as long as it is not prepared."""
    return counted(benchmark, "stimuli.csv", count_lines)


def responses_mb(benchmark):
    """Size of a benchmark's responses; 0 as long as it is not prepared."""
    files = Path(benchmark_folder(benchmark)).glob("responses.*")
    return sum(file.stat().st_size for file in files) / 2**20


def n_cells(benchmark):
    """Regions times subjects of a benchmark; 0 as long as it is not prepared, or holds RDMs only."""
    return counted(benchmark, "neuroids.csv", count_cells)


def counted(benchmark, name, count):
    """What is counted in a table of a benchmark, once as long as it is the same: thousands of jobs ask; 0 without it."""
    table = Path(benchmark_folder(benchmark), name)
    return read_count(table, table.stat().st_mtime_ns, count) if table.exists() else 0


@cache
def read_count(table, changed, count):
    return count(table)


def count_lines(table):
    with table.open("rb") as lines:
        return sum(1 for _ in lines) - 1


def count_cells(table):
    neuroids = pd.read_csv(table, dtype=str)
    regions = sum(name.startswith("roi_") for name in neuroids.columns)
    return regions * neuroids["subject"].nunique() if "subject" in neuroids else 0
