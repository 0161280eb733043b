"""A service that is temporarily stopped."""

from collections.abc import Iterator
from contextlib import contextmanager

from scripts.trio import Trio


@contextmanager
def without(trio: Trio, name: str) -> Iterator[None]:
    """Stop a service of a running trio for the block; afterwards every service is ready again."""
    trio.processes[name].terminate()
    trio.processes[name].wait()
    try:
        yield
    finally:
        trio.launch(name)
        trio.wait_until_ready()
