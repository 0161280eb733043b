"""The API key, from the file that holds it: a key on a command line could be read by everybody on the machine."""

import re
from pathlib import Path

from gwclient.errors import why_unread
from gwservice.regular_file import read_regular

_MOST_BYTES = 64 * 1024


def read_api_key(path: Path) -> str:
    """Read the key, or raise ValueError if the file cannot be read or holds none."""
    try:
        key = read_regular(path, _MOST_BYTES, follow=True, pipes=True).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"the API key cannot be read from {path}: {why_unread(error)}") from error
    if not re.fullmatch(r"[!-~]+", key):
        raise ValueError(f"{path} holds no API key: one line of visible characters")
    return key
