"""Fewer numbers a map, the geometry kept."""

from deepjuice.reduction.projection import ProjectionPool, SparseProjection, jl_width

__all__ = ["ProjectionPool", "SparseProjection", "jl_width"]
