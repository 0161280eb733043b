"""Check that as many bytes come as were announced."""

from collections.abc import Iterable, Iterator

from databuffer.tiers.tier import TierError


def exactly(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Yield chunks of `size` bytes in all; raise TierError if more or fewer come."""
    came = 0
    for chunk in chunks:
        came += len(chunk)
        if came > size:
            raise TierError(f"expected {size} bytes, got more")
        yield chunk
    if came != size:
        raise TierError(f"expected {size} bytes, got {came}")
