"""Fewer numbers a map, the geometry kept."""

from deepjuice.reduction.pca import TorchPCA
from deepjuice.reduction.pooling import pool_space, pool_to_grid, pool_tokens, tokens_to_grid
from deepjuice.reduction.projection import METHODS, ProjectionPool, jl_width, make_projection
from deepjuice.reduction.signed_sums import SignedSums
from deepjuice.reduction.sparse import SparseProjection
from deepjuice.reduction.srp import SRPMatrix, compute_srp, get_feature_map_srps, make_srp_matrix

__all__ = [
    "METHODS",
    "ProjectionPool",
    "SRPMatrix",
    "SignedSums",
    "SparseProjection",
    "TorchPCA",
    "compute_srp",
    "get_feature_map_srps",
    "jl_width",
    "make_projection",
    "make_srp_matrix",
    "pool_space",
    "pool_to_grid",
    "pool_tokens",
    "tokens_to_grid",
]
