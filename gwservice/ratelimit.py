"""The RateLimit headers of a quota (draft-ietf-httpapi-ratelimit-headers)."""

import time

from gwwire.public import Quota

_DAY_SECONDS = 86_400


def quota_headers(quota: Quota) -> dict[str, str]:
    """Return the headers for a group's quota of the day."""
    seconds = max(0, quota.reset - int(time.time()))
    return {
        "RateLimit-Policy": f'"bytes";q={quota.limit};w={_DAY_SECONDS};qu="content-bytes"',
        "RateLimit": f'"bytes";r={max(0, quota.limit - quota.used)};t={seconds}',
    }
