"""Tiers in a bucket of an S3 server of the tests."""

import os
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING

import pytest

from databuffer.tier_urls import TierUrl
from databuffer.tiers.backends.object_store import ObjectStoreTier, open_object_store
from tools.weed import BUCKET

if TYPE_CHECKING:
    from obstore.store import RetryConfig

SECRET = "very-secret"  # noqa: S105 (any is accepted)
#: Numbers of the tiers of this process; others may use the same server.
_PREFIXES = count()


def s3_tier(
    monkeypatch: pytest.MonkeyPatch, endpoint: str, *, bucket: str = BUCKET, retries: int = 0
) -> ObjectStoreTier:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    prefix = f"/test-{os.getpid()}-{next(_PREFIXES)}/of/packs/"
    retry: RetryConfig = {"max_retries": retries, "backoff": {"init_backoff": timedelta(milliseconds=1)}}
    return open_object_store(TierUrl("object", "s3", bucket, prefix), retry)
