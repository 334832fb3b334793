"""Import path of users' scripts; the names live in `deepjuice.frames` and `deepjuice.splits`."""

from deepjuice.frames import pandas_query
from deepjuice.splits import CVIndexer

__all__ = ["CVIndexer", "pandas_query"]
