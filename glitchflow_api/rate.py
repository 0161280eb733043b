"""The rate limit of each caller: a token bucket by name, or by address if callers have no names."""

import math
import time
from contextlib import suppress
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network

from glitchflow_api.access import Caller
from gwservice.asgi_types import Scope
from gwservice.correlation import RequestContext
from gwservice.security import OPEN_PATHS
from gwwire.problems import ProblemCode, ProblemError

#: Maximum number of buckets; full buckets need not be kept.
_MOST_CALLERS = 10_000
_IPV6_PREFIX = 64


class TooManyRequests(ProblemError, code=ProblemCode.TOO_MANY_REQUESTS):
    """The caller exceeds its rate limit."""


class Buckets:
    """The buckets of all callers: `rate` tokens a second are added to each, up to `burst`."""

    def __init__(self, rate: float, burst: int) -> None:
        self.rate = rate
        self.burst = burst
        self._buckets: dict[str, tuple[float, float]] = {}  # tokens, and the time of that count

    def take(self, caller: str, now: float) -> float:
        """Take a token if one is left; return the number left, below 0 if there was none."""
        tokens, at = self._buckets.get(caller, (self.burst, now))
        left = min(self.burst, tokens + (now - at) * self.rate) - 1
        if left >= 0:
            if caller not in self._buckets and len(self._buckets) >= _MOST_CALLERS:
                self._forget(now)
            self._buckets[caller] = left, now
        return left

    def _forget(self, now: float) -> None:
        """Remove the buckets that are full again, or, if there are none, the older half."""
        full = self.burst / self.rate
        kept = {caller: bucket for caller, bucket in self._buckets.items() if now - bucket[1] < full}
        if len(kept) >= _MOST_CALLERS:
            kept = dict(list(kept.items())[_MOST_CALLERS // 2 :])
        self._buckets = kept


class RateLimit:
    """Limits each caller to `rate` requests a second, and `burst` at once; the answers say how many are left."""

    def __init__(self, rate: float, burst: int) -> None:
        self._buckets = Buckets(rate, burst)
        self._policy = (b"ratelimit-policy", f'"requests";q={burst};w={math.ceil(burst / rate)}'.encode())

    def take(self, request: RequestContext, scope: Scope) -> None:
        """Count a request of an admitted caller, or raise TooManyRequests."""
        if scope["path"] in OPEN_PATHS:
            return
        rate, burst = self._buckets.rate, self._buckets.burst
        left = self._buckets.take(_key(request.caller, scope), time.monotonic())
        full = math.ceil((burst - max(0.0, left)) / rate)
        request.answer_headers += self._policy, (b"ratelimit", b'"requests";r=%d;t=%d' % (max(0, int(left)), full))
        if left < 0:
            message = f"more than {rate:g} requests a second (RATE), beyond {burst} at once (BURST)"
            raise TooManyRequests(message, retry_after=max(1, math.ceil(-left / rate)))


def _key(caller: Caller, scope: Scope) -> str:
    return _client_network((scope["client"] or ("unknown", 0))[0]) if caller.name is None else f"name {caller.name}"


@lru_cache(maxsize=4096)
def _client_network(address: str) -> str:
    """Return an IPv4 address, or the /64 network of an IPv6 address: one client may use many addresses in it."""
    with suppress(ValueError):
        parsed = ip_address(address)
        if isinstance(parsed, IPv6Address):
            if parsed.ipv4_mapped:  # IPv4 on a dual-stack socket; otherwise all of it would be one network
                return str(parsed.ipv4_mapped)
            return str(ip_network(f"{address}/{_IPV6_PREFIX}", strict=False))
    return address
