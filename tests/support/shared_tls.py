"""Clients of httpx2 share what they trust: to read the certificates takes longer than many a request."""

from functools import cache

import httpcore2


def share_trust() -> None:
    """Make the clients that are created from now on, and trust what is trusted by default, use one TLS context."""
    httpcore2.default_ssl_context = cache(httpcore2.default_ssl_context)
