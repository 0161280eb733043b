"""User and password in a URL, which no message shows."""

import re
from base64 import b64encode
from urllib.parse import unquote

_USER = re.compile(r"(?<=//)([^/?#\s]*)@")


def hide_user(text: str) -> str:
    """Return a text in which `***` is in place of the user and password of each URL."""
    return _USER.sub("***@", text)


def split_user(url: str) -> tuple[str, str | None]:
    """Return a URL without user and password, and the header Authorization that stands for them, or None."""
    found = _USER.search(url)
    if found is None:
        return url, None
    return _USER.sub("", url, count=1), f"Basic {b64encode(unquote(found[1]).encode()).decode()}"
