"""Import path of users' scripts; the class lives in `deepjuice.splits`."""

from deepjuice.splits import CVIndexer

__all__ = ["CVIndexer"]
