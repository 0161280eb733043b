"""Requests of httpx2 in tests may take a minute, not five seconds, if the machine has other work."""

from httpx2._config import DEFAULT_TIMEOUT_CONFIG


def allow_a_minute() -> None:
    """Change the timeout of requests that have no other one."""
    for name in ("connect", "read", "write", "pool"):
        setattr(DEFAULT_TIMEOUT_CONFIG, name, 60.0)
