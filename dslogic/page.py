"""What the status page shows; the holder's token is not among it."""

from typing import Any

from dslogic.buffer_client import BufferClient
from dslogic.rules import fill

#: The page lists the newest files only: nobody reads a hundred thousand names.
_FILES_SHOWN = 200


def status_page(buffer: BufferClient, max_size: int) -> dict[str, Any]:
    """Give the values of the page's template."""
    stats, description, names = buffer.stats(), buffer.description(), buffer.names()
    return {
        "state": description.dstatus,
        "holder": description.user,
        "n_itm": stats.n_itm,
        "buff_size": readable_size(stats.buff_size),
        "max_size": readable_size(max_size),
        "percent": round(100 * fill(stats, max_size)),
        "newest": names[: -_FILES_SHOWN - 1 : -1],
    }


def readable_size(size: float) -> str:
    """Write a number of bytes with three digits or so: `7.13 kB`."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":  # noqa: PLR2004 (decimal units)
            break
        size /= 1000
    return f"{size:.4g} {unit}"
