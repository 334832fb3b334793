"""A real S3 protocol (moto's server): public and private objects, odd names, uploads in parts."""

import boto3
import numpy as np
import pytest
from hostile import Fault, Hostile
from moto.server import ThreadedMotoServer

from juicyfruits.remote import Forbidden, NotFound, Patience, download, open_source
from juicyfruits.remote.checksums import MIB

FAST = Patience(tries=3, backoff=0.01, connect=1, read=2)
WHOLE = np.random.default_rng(0).bytes(400_000)
PARTS = [np.random.default_rng(n).bytes(size) for n, size in ((1, 5 * MIB), (2, 5 * MIB), (3, 1000))]


@pytest.fixture(scope="module")
def endpoint():
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    address = "http://{}:{}".format(*moto.get_host_and_port())
    owner = {"aws_access_key_id": "x", "aws_secret_access_key": "x", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=address, **owner)
    client.create_bucket(Bucket="public")
    client.put_object(Bucket="public", Key="p/whole + é #1%.bin?", Body=WHOLE, ACL="public-read")
    client.put_object(Bucket="public", Key="p/secret.bin", Body=WHOLE)
    where = {"Bucket": "public", "Key": "p/parts.bin"}
    where["UploadId"] = client.create_multipart_upload(**where, ACL="public-read")["UploadId"]
    etags = [client.upload_part(**where, PartNumber=n, Body=part)["ETag"] for n, part in enumerate(PARTS, 1)]
    made = {"Parts": [{"PartNumber": n, "ETag": etag} for n, etag in enumerate(etags, 1)]}
    client.complete_multipart_upload(**where, MultipartUpload=made)
    yield address
    moto.stop()


def test_a_public_bucket_is_read_without_credentials(endpoint, tmp_path):
    source = open_source(f"s3://public/p?endpoint={endpoint}", FAST)
    whole, parts = download(source, ["whole + é #1%.bin?", "parts.bin"], tmp_path)
    assert (whole.proof, parts.proof) == ("md5", "md5 of parts") and parts.etag.endswith("-3")
    assert (tmp_path / "whole + é #1%.bin?").read_bytes() == WHOLE
    assert (tmp_path / "parts.bin").read_bytes() == b"".join(PARTS)
    file = source.stat("parts.bin")
    assert b"".join(source.read(file, 5 * MIB - 2, 5 * MIB + 2)) == PARTS[0][-2:] + PARTS[1][:2]
    with pytest.raises(NotFound):
        download(source, ["none.bin"], tmp_path)
    with pytest.raises(Forbidden, match="not public"):
        download(source, ["secret.bin"], tmp_path)


def test_damage_in_any_part_is_noticed(endpoint, tmp_path):
    path = "/public/p/parts.bin"
    with Hostile(upstream=endpoint) as between:
        between.faults[path] = [Fault(corrupt=6 * MIB), Fault(break_after=7 * MIB), Fault(status=503)]
        download(open_source(f"s3://public/p?endpoint={between.url}", FAST), ["parts.bin"], tmp_path)
        size = sum(map(len, PARTS))
        assert between.gets[path] == [None, None, *[f"bytes={7 * MIB}-{size - 1}"] * 2]
        assert between.sent[path] == 2 * size
    assert (tmp_path / "parts.bin").read_bytes() == b"".join(PARTS)
