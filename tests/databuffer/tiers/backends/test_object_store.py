import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import pytest

from databuffer.tier_urls import TierUrl
from databuffer.tiers.backends import object_store
from databuffer.tiers.backends.object_store import open_object_store
from databuffer.tiers.tier import TierError
from tests.support.faulty_proxy import Trouble, faulty_proxy
from tests.support.object_stores import SECRET, s3_tier
from tests.support.raw_server import ServerConnection, raw_server
from tests.support.tier_conformance import LARGE, SourceFailed, in_chunks, write
from tools.weed import BUCKET


@pytest.fixture(autouse=True)
def _only_the_environment_of_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def error_of(tier_call: object) -> str:
    with pytest.raises(TierError) as raised:
        tier_call()  # type: ignore[operator]
    return str(raised.value)


def unfinished_uploads(s3_url: str) -> int:
    """Return the number of uploads in parts of this process that are neither finished nor aborted."""
    with urllib.request.urlopen(f"{s3_url}/{BUCKET}?uploads", timeout=60) as answer:  # noqa: S310 (a loopback address)
        return int(answer.read().decode().count(f"<Key>test-{os.getpid()}-"))


def test_the_parts_of_an_upload_that_failed_are_deleted(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = unfinished_uploads(s3_url)
    seen = []

    def broken() -> Iterator[bytes]:
        yield from in_chunks(LARGE)
        seen.append(unfinished_uploads(s3_url))
        raise SourceFailed

    with pytest.raises(SourceFailed):
        s3_tier(monkeypatch, s3_url).write("one.tar", len(LARGE) + 1, broken())
    assert seen == [before + 1]
    assert unfinished_uploads(s3_url) == before


def test_a_tier_contains_only_what_lies_below_its_prefix(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = s3_tier(monkeypatch, s3_url), s3_tier(monkeypatch, s3_url)
    write(one, "a/one.tar")
    assert [each.key for each in one.list()] == ["a/one.tar"]
    assert list(other.list()) == []
    assert other.stat("a/one.tar") is None


def test_an_object_that_is_replaced_while_it_is_read_is_not_mixed(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "_CONCURRENCY", 1)  # nothing is read ahead
    tier = s3_tier(monkeypatch, s3_url)
    write(tier, "one.tar", LARGE)
    chunks = tier.read("one.tar")
    assert LARGE.startswith(next(chunks))
    write(tier, "one.tar", bytes(len(LARGE) + 1))
    with pytest.raises(TierError, match=r"one\.tar was replaced while it was read"):
        next(chunks)


def test_an_error_says_in_one_line_what_is_wrong(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = s3_tier(monkeypatch, "http://127.0.0.1:9")
    missing = s3_tier(monkeypatch, s3_url, bucket="missing")
    with faulty_proxy(s3_url, [Trouble.SLOW_DOWN]) as proxy:
        slow = error_of(lambda: list(s3_tier(monkeypatch, proxy.url).list()))
    told = [
        error_of(lambda: refused.stat("one.tar")),
        error_of(lambda: missing.stat("one.tar")),
        slow,
    ]
    assert told[0].startswith("tier object: one.tar: the endpoint cannot be reached: ")
    assert told[1].startswith("tier object: one.tar: the bucket does not exist: ")
    assert told[2].startswith("tier object: the store asks for fewer requests (503 SlowDown): ")
    for text in told:
        assert "\n" not in text
        assert len(text) < 500
        assert SECRET not in text


def test_access_that_is_denied_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def denies(talk: ServerConnection) -> None:
        talk.request()
        body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        talk.say(b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body)

    with raw_server(denies) as server:
        tier = s3_tier(monkeypatch, server.url)
        told = error_of(lambda: write(tier, "one.tar"))
    assert told.startswith("tier object: one.tar: access denied: ")
    assert SECRET not in told


def test_a_store_that_fails_always_is_given_up_in_time(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with faulty_proxy(s3_url, [Trouble.SLOW_DOWN]) as proxy:
        begin = time.monotonic()
        error_of(lambda: s3_tier(monkeypatch, proxy.url, retries=5).stat("one.tar"))
        assert time.monotonic() - begin < 60
        assert proxy.requests == 6


def test_an_endpoint_without_tls_has_to_be_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    s3_tier(monkeypatch, "http://127.0.0.1:9")  # sets the environment
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    tier = open_object_store(TierUrl("object", "s3", BUCKET, ""))
    assert "AWS_ALLOW_HTTP=true" in error_of(lambda: tier.stat("one.tar"))


def test_keys_that_are_incomplete_are_an_error_before_the_first_call(monkeypatch: pytest.MonkeyPatch) -> None:
    s3_tier(monkeypatch, "http://127.0.0.1:9")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    assert "Missing AccessKeyId" in error_of(lambda: open_object_store(TierUrl("object", "s3", BUCKET, "")))


def test_a_large_pack_is_written_and_read_in_bounded_memory(s3_url: str) -> None:
    program = f"""
import os
from pathlib import Path
os.environ.update(AWS_ENDPOINT_URL={s3_url!r}, AWS_ALLOW_HTTP="true", AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="b")
from databuffer.tier_urls import TierUrl
from databuffer.tiers.backends.object_store import open_object_store
tier = open_object_store(TierUrl("object", "s3", {BUCKET!r}, "/memory-{os.getpid()}"))
used = lambda: int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
chunk = os.urandom(1 << 20)
tier.write("small.tar", 1 << 20, [chunk])
before = used()
tier.write("large.tar", 150 << 20, (chunk for _ in range(150)))
assert sum(map(len, tier.read("large.tar"))) == 150 << 20
print((used() - before) // 1024)
"""
    told = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=100)
    assert int(told.stdout) < 90  # MB; parts of 8 MiB, of which a few are on their way


def test_google_and_azure_are_opened_by_their_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")
    monkeypatch.setenv("GOOGLE_SKIP_SIGNATURE", "true")
    for scheme in ("gs", "az"):
        assert open_object_store(TierUrl("object", scheme, "bucket", "/packs")).kind == "object"
