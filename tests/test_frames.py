import itertools

import numpy as np
import pandas as pd
import pytest

from deepjuice.frames import flatten_nested_list, pandas_query
from juicyfruits.errors import InputError


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "roi": rng.choice(["EVC", "OTC", "V4"], 40),
            "subj_id": rng.integers(1, 4, 40),
            "ncsnr": rng.choice([0.5, np.nan], 40),
        },
        index=rng.permutation(40) + 100,
    )


def by_hand(table, filters):
    """Go through the rows one by one; NaN is wanted where NaN is among the values."""
    kept = []
    for label, row in table.iterrows():
        wanted = all(any(row[c] == v or (row[c] != row[c] and v != v) for v in values) for c, values in filters.items())
        kept += [label] * wanted
    return kept


FILTERS = [{}, {"roi": ["EVC"]}, {"roi": ["EVC", "V4"], "subj_id": [2]}, {"ncsnr": [np.nan]}, {"roi": []}]


@pytest.mark.parametrize("filters", FILTERS)
@pytest.mark.parametrize("kind", [list, tuple, np.array, pd.Series, pd.Index])
def test_rows_are_those_found_by_hand(table, filters, kind):
    given = {column: kind(values) for column, values in filters.items()}
    assert pandas_query(table, given).index.tolist() == by_hand(table, filters)


@pytest.mark.parametrize(("roi", "subject"), list(itertools.product(["EVC", "V4", "E"], [1, np.int64(3), 9])))
def test_single_values(table, roi, subject):
    filters = {"roi": [roi], "subj_id": [subject]}
    assert pandas_query(table, {"roi": roi, "subj_id": subject}).index.tolist() == by_hand(table, filters)
    assert pandas_query(table, {"subj_id": {int(subject)}}).index.tolist() == by_hand(table, {"subj_id": [subject]})


def test_no_filters_keep_everything_in_a_table_of_its_own(table):
    for filters in (None, {}):
        rows = pandas_query(table, filters)
        pd.testing.assert_frame_equal(rows, table)
        rows["roi"] = "changed"
        assert "changed" not in set(table["roi"])


def test_an_unknown_column_is_named(table):
    with pytest.raises(InputError, match="column 'quux' is not in the table: known are 'roi', 'subj_id', 'ncsnr'"):
        pandas_query(table, {"quux": 1})
    with pytest.raises(InputError, match="did you mean 'subj_id'"):
        pandas_query(table, {"subjid": 1})


def test_lists_within_lists_are_made_flat():
    assert flatten_nested_list([1, [2, (3, [4]), []], "five six"]) == [1, 2, 3, 4, "five six"]
    assert flatten_nested_list([]) == []
    captions = [["a", "b"], ["c"], ["d", "e"]]
    assert flatten_nested_list(captions) == list(itertools.chain.from_iterable(captions))
