"""The headers that tell a limit and what is left of it (draft-ietf-httpapi-ratelimit-headers)."""

import time

from gwwire.public import Quota

_DAY_SECONDS = 86_400


def quota_headers(quota: Quota) -> dict[str, str]:
    """Tell a group's quota of the day."""
    seconds = max(0, quota.reset - int(time.time()))
    return {
        "RateLimit-Policy": f'"bytes";q={quota.limit};w={_DAY_SECONDS};qu="content-bytes"',
        "RateLimit": f'"bytes";r={max(0, quota.limit - quota.used)};t={seconds}',
    }
