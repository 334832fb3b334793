"""What is no RDM is refused, and everything that is one is read."""

import numpy as np
import pandas as pd
import pytest

from deepjuice.alignment import compare_rdms, upper_triangle
from juicyfruits.errors import InputError

RDM = np.array([[0.0, 1.0, 2.0, 5.0], [1.0, 0.0, 3.0, 4.0], [2.0, 3.0, 0.0, 6.0], [5.0, 4.0, 6.0, 0.0]])


@pytest.mark.parametrize("wrong", [RDM + 1j, RDM[0], RDM[:, :3], RDM[:2, :2]])
def test_what_is_no_rdm_is_refused(wrong):
    with pytest.raises(InputError, match="An RDM must be"):
        compare_rdms(wrong, RDM)


def test_tables_and_read_only_arrays_are_read_above_the_diagonal():
    fixed = RDM.copy()
    fixed.flags.writeable = False
    for same in (pd.DataFrame(RDM), fixed, RDM[::-1, ::-1][::-1, ::-1], RDM.tolist(), RDM + np.tri(4)):
        np.testing.assert_allclose(upper_triangle(same), [1, 2, 5, 3, 4, 6], atol=1e-7)
    np.testing.assert_array_equal(upper_triangle(RDM + np.diag([np.nan] * 4)), [1, 2, 5, 3, 4, 6])
