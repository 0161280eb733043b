"""Requests a second, for each caller: a token bucket by name, or by address where callers have no names."""

import math
import time
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import NamedTuple

from glitchflow_api.access import Caller
from gwservice.asgi_types import Scope
from gwservice.correlation import RequestContext
from gwservice.security import OPEN_PATHS
from gwwire.problems import ProblemCode, ProblemError

#: Callers that are remembered; those who have all their tokens again need not be.
_MOST_CALLERS = 10_000
_IPV6_HOME = 64


class TooManyRequests(ProblemError):
    """The caller sends more requests than it may."""

    code = ProblemCode.TOO_MANY_REQUESTS


class Bucket(NamedTuple):
    """What a caller had left at a moment; it fills by itself."""

    tokens: float
    at: float


class Buckets:
    """The buckets of all callers.

    Args:
        rate: tokens a second that come into each.
        burst: as many as it holds.

    """

    def __init__(self, rate: float, burst: int) -> None:
        self.rate = rate
        self.burst = burst
        self._buckets: dict[str, Bucket] = {}

    def take(self, caller: str, now: float) -> float:
        """Take a token if there is one; give what is left, below 0 where there was none."""
        bucket = self._buckets.get(caller)
        tokens = self.burst if bucket is None else min(self.burst, bucket.tokens + (now - bucket.at) * self.rate)
        left = tokens - 1
        if left >= 0:
            if bucket is None and len(self._buckets) >= _MOST_CALLERS:
                self._forget(now)
            self._buckets[caller] = Bucket(left, now)
        return left

    def _forget(self, now: float) -> None:
        """Forget those whose buckets are full by now, and else the half that came first."""
        full = self.burst / self.rate
        kept = {caller: bucket for caller, bucket in self._buckets.items() if now - bucket.at < full}
        if len(kept) >= _MOST_CALLERS:
            kept = dict(list(kept.items())[_MOST_CALLERS // 2 :])
        self._buckets = kept


class RateLimit:
    """Limits the requests of each caller, and adds what is left to the answers.

    Args:
        rate: requests a second.
        burst: requests that may come at once.

    """

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
    if caller.name is not None:
        return f"name {caller.name}"
    return _home((scope["client"] or ("unknown", 0))[0])


@lru_cache(maxsize=4096)
def _home(address: str) -> str:
    """Give an address; of IPv6, of which a home has very many, the home's."""
    try:
        told = ip_address(address)
        if isinstance(told, IPv6Address):
            if told.ipv4_mapped:  # as a socket for both sees IPv4: all of it would be one home
                return str(told.ipv4_mapped)
            return str(ip_network(f"{address}/{_IPV6_HOME}", strict=False))
    except ValueError:
        return address
    return address
