"""juicyfruits: stimuli and what brains answered to them, as one kind of object and one layout of files."""

from juicyfruits.benchmark import Benchmark
from juicyfruits.errors import InputError
from juicyfruits.ncsnr import estimate_ncsnr
from juicyfruits.nsd.benchmark import NSDBenchmark
from juicyfruits.write import write_benchmark

__all__ = ["Benchmark", "InputError", "NSDBenchmark", "estimate_ncsnr", "write_benchmark"]
