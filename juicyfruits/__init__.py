"""juicyfruits: stimuli and what brains answered to them, as one kind of object and one layout of files."""

from juicyfruits.benchmark import Benchmark
from juicyfruits.custom import NSDBenchmarkCustom
from juicyfruits.errors import InputError
from juicyfruits.ncsnr import estimate_ncsnr
from juicyfruits.published import CowleyV4Benchmark, Kriegeskorte92Benchmark, NSDBenchmark
from juicyfruits.write import write_benchmark

__all__ = [
    "Benchmark",
    "CowleyV4Benchmark",
    "InputError",
    "Kriegeskorte92Benchmark",
    "NSDBenchmark",
    "NSDBenchmarkCustom",
    "estimate_ncsnr",
    "write_benchmark",
]
