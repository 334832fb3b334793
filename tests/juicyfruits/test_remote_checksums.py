"""Sums: those that ETags say, those of parts, and those in a file."""

import hashlib

import pytest

from juicyfruits.errors import InputError
from juicyfruits.remote.checksums import MIB, etag_checksum, parse_sums, verify

DATA = bytes(i * i % 251 for i in range(300_000))


def multipart_etag(data: bytes, part_size: int) -> str:
    parts = [hashlib.md5(data[i : i + part_size]).digest() for i in range(0, len(data), part_size)]
    return f"{hashlib.md5(b''.join(parts)).hexdigest()}-{len(parts)}"


@pytest.mark.parametrize("block", [1000, 4096, 100_000])
@pytest.mark.parametrize("part_size", [1024, 99_999, 100_000, 300_000])
def test_the_sum_of_parts_is_as_a_plain_loop_forms_it(block, part_size):
    etag = multipart_etag(DATA, part_size)
    blocks = [DATA[i : i + block] for i in range(0, len(DATA), block)]
    checksum = etag_checksum(etag, len(DATA), part_size)
    good = verify(blocks, len(DATA), checksum)
    assert (good.problem, good.proof, good.sha256) == ("", "md5 of parts", hashlib.sha256(DATA).hexdigest())
    assert verify([DATA[:-1], b"?"], len(DATA), checksum).problem.endswith(f"not {etag}")


def test_parts_of_unknown_size_are_tried_and_prove_nothing_when_none_fits():
    data = bytes(9 * MIB)
    for part_size, proof in ((8 * MIB, "md5 of parts"), (5 * MIB, "md5 of parts"), (6 * MIB, "size")):
        checksum = etag_checksum(multipart_etag(data, part_size), len(data), None)
        verdict = verify([data], len(data), checksum)
        assert (verdict.problem, verdict.proof) == ("", proof)


@pytest.mark.parametrize(
    "etag", ["", "abc", "Thu, 01 Jan 1970", "0" * 31 + "x", "0" * 32 + "-x", "0" * 32 + "-7", "0" * 32 + "-²"]
)
def test_an_etag_that_is_no_sum_of_the_bytes_is_not_taken_for_one(etag):
    assert etag_checksum(etag, 100, None) is None


def test_a_store_that_does_not_tell_parts_is_still_held_to_their_sum(server, s3):
    data = DATA * 32  # 9.6 MB
    server.put("/b/parts.bin", data, etag=multipart_etag(data, 8 * MIB))
    checksum = s3.checksum(s3.stat("parts.bin"))
    assert (checksum.algorithm, checksum.certain) == ("md5 of parts", False)
    assert verify([data], len(data), checksum).proof == "md5 of parts"


def test_a_kms_encrypted_object_has_no_sum(server, s3):
    headers = {"x-amz-server-side-encryption": "aws:kms"}
    server.put("/b/kms.bin", DATA, etag="0" * 32, headers=headers)
    assert s3.read_bytes("kms.bin") == DATA


def test_sums_are_read_as_sha256sum_writes_them():
    assert parse_sums(f"{'a' * 64}  ./x y.gz\n{'B' * 64} *z\n\n", "S") == {"x y.gz": "a" * 64, "z": "b" * 64}
    with pytest.raises(InputError, match="line 2"):
        parse_sums(f"{'a' * 64}  x\n<html>", "S")
