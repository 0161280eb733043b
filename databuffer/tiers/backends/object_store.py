"""A tier in an object store: S3 and what speaks its protocol, Google Cloud Storage, Azure Blob Storage."""

import os
import re
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from posixpath import dirname
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, S3Store

from databuffer.tier_urls import TierUrl
from databuffer.tiers.backends.always_online import AlwaysOnline
from databuffer.tiers.backends.exactly import exactly
from databuffer.tiers.backends.keys import check_key
from databuffer.tiers.tier import Capacity, NotThere, Stored, TierError

#: Bytes of a request: of a range that is read, and of a part that is written unless there would be too many parts.
_PART = 8 << 20
#: S3 takes 10,000 parts.
_MOST_PARTS = 9000
#: Parts in memory that are written or read at the same time.
_CONCURRENCY = 4
#: Seconds for a connection, and for a request with its body.
_CONNECT_SECONDS = 10
_REQUEST_SECONDS = 60
#: Seconds after which a failing request is not repeated any more.
_RETRY_SECONDS = 60.0
_LONGEST_ERROR = 300


if TYPE_CHECKING:  # these exist for type checkers only
    from obstore import ObjectMeta
    from obstore.store import ClientConfig, ObjectStore, RetryConfig


def open_object_store(url: TierUrl, retry: "RetryConfig | None" = None) -> "ObjectStoreTier":
    """Return the tier of an `s3://`, `gs://` or `az://` URL, with keys and endpoint of the environment.

    Nothing is contacted. Raise TierError if the environment is incomplete.
    """
    prefix = url.path.strip("/") or None
    retry = retry or {"retry_timeout": timedelta(seconds=_RETRY_SECONDS)}
    store: ObjectStore
    try:
        match url.scheme:
            case "s3":
                store = S3Store(url.host, prefix=prefix, client_options=_client("AWS"), retry_config=retry)
            case "gs":
                store = GCSStore(url.host, prefix=prefix, client_options=_client("GOOGLE"), retry_config=retry)
            case _:
                store = AzureStore(url.host, prefix=prefix, client_options=_client("AZURE"), retry_config=retry)
    except (BaseError, ValueError) as error:
        raise TierError(f"tier {url.name}: {_explained(error)}") from error
    return ObjectStoreTier(url.name, store, int(url.options["capacity"]) if "capacity" in url.options else None)


def _client(family: str) -> "ClientConfig":
    """Return limits of time; with them, the library does not read `AWS_ALLOW_HTTP` itself."""
    return {
        "allow_http": os.environ.get(f"{family}_ALLOW_HTTP", "").lower() in {"1", "true", "yes", "on"},
        "connect_timeout": timedelta(seconds=_CONNECT_SECONDS),
        "timeout": timedelta(seconds=_REQUEST_SECONDS),
    }


class ObjectStoreTier(AlwaysOnline):
    """Objects of a bucket. Large ones are written in parts, which the store joins when all have come."""

    kind = "object"

    def __init__(self, name: str, store: "ObjectStore", capacity: int | None = None) -> None:
        self.name = name
        self._store = store
        self._capacity = capacity

    def write(self, key: str, size: int, chunks: Iterable[bytes]) -> None:
        """Store `size` bytes under a key; see `Tier`.

        An upload in parts that fails is aborted. After a crash, its parts stay in the bucket and are not visible.
        """
        check_key(key)
        source = _Source(exactly(chunks, size))
        with self._errors(key):
            try:
                self._put(key, size, source)
            except FileNotFoundError as error:
                if error is source.error:
                    raise
                self._check_bucket()
                raise TierError(f"tier {self.name}: {key}: the store answered 404 while it was written") from error

    def _put(self, key: str, size: int, source: Iterable[bytes]) -> None:
        if size <= _PART:
            obstore.put(self._store, key, b"".join(source), use_multipart=False)
        else:
            part = max(_PART, size // _MOST_PARTS + 1)
            obstore.put(self._store, key, source, use_multipart=True, chunk_size=part, max_concurrency=_CONCURRENCY)

    def read(self, key: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the bytes [start, stop) of a key, in a request per chunk, some of them ahead; see `Tier`."""
        found = self.stat(key)
        if found is None:
            raise NotThere(f"tier {self.name}: there is no {key}")
        return self._read(found, start, found.size if stop is None else min(stop, found.size))

    def _read(self, found: Stored, start: int, stop: int) -> Iterator[bytes]:
        ranges = [(begin, min(begin + _PART, stop)) for begin in range(start, stop, _PART)]
        if len(ranges) == 1:
            yield self._range(found, *ranges[0])
            return
        threads = ThreadPoolExecutor(_CONCURRENCY, thread_name_prefix="read")
        waiting: deque[Future[bytes]] = deque()
        try:
            for each in ranges:
                waiting.append(threads.submit(self._range, found, *each))
                if len(waiting) == _CONCURRENCY:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            threads.shutdown(wait=False, cancel_futures=True)

    def _range(self, found: Stored, begin: int, end: int) -> bytes:
        with self._errors(found.key):
            try:
                answer = obstore.get(self._store, found.key, options={"range": (begin, end)})
                chunk = answer.bytes().to_bytes()
            except FileNotFoundError:
                raise NotThere(f"tier {self.name}: {found.key} was deleted while it was read") from None
        if _stored(found.key, answer.meta) != found:
            raise TierError(f"tier {self.name}: {found.key} was replaced while it was read")
        if len(chunk) != end - begin:
            raise TierError(f"tier {self.name}: {found.key}: got {len(chunk)} bytes of {end - begin}")
        return chunk

    def stat(self, key: str) -> Stored | None:
        """Return what lies under a key, or None."""
        check_key(key)
        with self._errors(key):
            try:
                found = obstore.head(self._store, key)
            except FileNotFoundError:
                self._check_bucket()
                return None
        return _stored(key, found)

    def delete(self, key: str) -> None:
        """Delete what lies under a key, if there is something."""
        check_key(key)
        with self._errors(key):
            try:
                obstore.delete(self._store, key)
            except FileNotFoundError:
                self._check_bucket()

    def list(self, prefix: str = "") -> Iterator[Stored]:
        """Yield what lies under keys with a prefix, in the order of the keys; all of them are read before the first."""
        with self._errors(prefix):
            # Stores take whole folders as prefix, and not every one sorts by key.
            found = [
                _stored(one["path"], one)
                for page in obstore.list(self._store, dirname(prefix) or None)
                for one in page
                if one["path"].startswith(prefix)
            ]
        found.sort(key=lambda one: one.key)
        yield from found

    def capacity(self) -> Capacity:
        """Return the capacity that was given: object stores do not say."""
        return Capacity(self._capacity)

    def _check_bucket(self) -> None:
        """Raise an error if the bucket does not exist: a HEAD request answers 404 for that too."""
        next(iter(obstore.list(self._store, "no-such-folder", chunk_size=1)), None)

    @contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        """Raise TierError instead of the library's exceptions."""
        try:
            yield
        except BaseError as error:
            place = f"tier {self.name}: {key}" if key else f"tier {self.name}"
            raise TierError(f"{place}: {_explained(error)}") from error


class _Source:
    """Bytes from elsewhere; `error` is the exception that they ended with."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self.error: BaseException | None = None

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._chunks
        except BaseException as error:
            self.error = error
            raise


def _stored(key: str, found: "ObjectMeta") -> Stored:
    return Stored(key, found["size"], found["last_modified"].timestamp())


#: Texts in errors, and their meanings.
_MEANINGS = (
    ("NoSuchBucket", "the bucket does not exist"),
    ("SlowDown", "the store asks for fewer requests (503 SlowDown)"),
    ("503 Service Unavailable", "the store is not available (503)"),
    ("403 Forbidden", "access denied"),
    ("401 Unauthorized", "access denied"),
    ("kind: Connect", "the endpoint cannot be reached"),
    ("kind: Timeout", "the endpoint did not answer in time"),
    ("BadScheme", "the endpoint is http://, which has to be allowed: AWS_ALLOW_HTTP=true"),
)


def _explained(error: Exception) -> str:
    """Return an error in one line, without the library's internals and without queries, which can have signatures."""
    text = str(error)
    summary = re.sub(r"\?\S*", "", " ".join(text.partition("\n\nDebug source")[0].split()))[:_LONGEST_ERROR]
    meaning = next((meaning for mark, meaning in _MEANINGS if mark in text), "")
    return f"{meaning}: {summary}" if meaning else summary
