"""Our numbers beside those of scikit-learn, scipy, himalaya and rsatoolbox, on a user's own data."""

from deepjuice.verify.differences import Difference, find_differences, format_table
from deepjuice.verify.geometry import compare_comparisons, compare_projected_rdm, compare_rdms_made
from deepjuice.verify.ridge import compare_ridge
from deepjuice.verify.run import Verification, verify
from deepjuice.verify.scores import compare_scores

__all__ = [
    "Difference",
    "Verification",
    "compare_comparisons",
    "compare_projected_rdm",
    "compare_rdms_made",
    "compare_ridge",
    "compare_scores",
    "find_differences",
    "format_table",
    "verify",
]
