"""Fewer numbers a map, the geometry kept."""

from deepjuice.reduction.projection import METHODS, ProjectionPool, jl_width, make_projection
from deepjuice.reduction.signed_sums import SignedSums
from deepjuice.reduction.sparse import SparseProjection

__all__ = ["METHODS", "ProjectionPool", "SignedSums", "SparseProjection", "jl_width", "make_projection"]
