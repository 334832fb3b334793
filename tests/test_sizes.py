import pytest

from deepjuice.sizes import format_bytes, parse_bytes, printed_total
from juicyfruits.errors import InputError


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [("16GB", 16 * 1024**3), ("1.5 kb", 1536), ("2M", 2 * 1024**2), (77, 77), ("10 GiB", 10 * 1024**3)],
)
def test_parse(text, n_bytes):
    assert parse_bytes(text) == n_bytes


@pytest.mark.parametrize("text", ["", "many", "-1GB", "0", 0, -3, True, "4 XB", None])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(InputError, match="8GB"):
        parse_bytes(text)


def test_format_and_total():
    assert format_bytes(1023) == "1023.00 B" and format_bytes(1024**2 * 2.5) == "2.50 MB"
    # 1.004 KB prints as 1.00 KB: the total is the sum of what is printed, not of the bytes
    assert printed_total([1028.1] * 100) == "100.00 KB"
    assert printed_total([1028.1], times=100) == "100.00 KB"
