"""Write ids into the paths of URLs."""

from urllib.parse import quote

from gwclient.errors import InvalidArgument


def url_path(*parts: str | int) -> str:
    """Return the path of a URL that has these parts, or raise InvalidArgument for one that would name something else.

    Clients, proxies and servers remove empty parts, `.` and `..` from a path, and some take `%2F` for a slash.
    """
    texts = [str(part) for part in parts]
    for text in texts:
        if text in {"", ".", ".."} or "/" in text:
            raise InvalidArgument(f"{text!r} is not an id, nor a part of one between slashes")
    return "".join(f"/{quote(text, safe='')}" for text in texts)
