"""Encode channel names for file names and HDF5 object names, which cannot hold every character.

A channel may be any text. Its encoded name is safe, differs between channels, and can be decoded unless it was cut.
"""

import hashlib
import re
from urllib.parse import unquote

#: The TYPE of segments without a channel; it is no channel's, because in those `#` precedes hexadecimal digits.
UNNAMED_TYPE = "#unnamed"

#: Maximum number of characters of a TYPE; leaves enough of the 255 bytes of a file name for the rest and for a suffix.
_LONGEST = 180
#: Number of these characters used by the digest of a TYPE that is cut, with its `##`.
_DIGEST = 16
#: The detector and the system of `DET:SYSTEM-NAME`; or a name that would be decoded as one with a detector.
_BEGINNING = re.compile(r"([A-Z][0-9]):([0-9A-Za-z]*)|[A-Z][0-9](?=_)")
_NOT_IN_TYPE = re.compile("[^0-9A-Za-z_]")
_NOT_IN_OBJECT = re.compile(r"[/%\x00]|^\.+\Z")


def site_of_channel(channel: str) -> str:
    """Return the OBS of a channel for a file name: the first letter of its detector, or `X`."""
    return channel[0] if "A" <= channel[:1] <= "Z" else "X"


def type_of_channel(channel: str) -> str:
    """Return the TYPE of a channel for a file name OBS-TYPE-GPSSTART-DURATION (LIGO-T050017).

    `DET:SYSTEM-NAME` becomes `DET_SYSTEM_NAME`. Elsewhere letters, digits and `_` are kept, `-` becomes `+`, and each
    byte of another character in UTF-8 becomes `#XX`, as does a `_` in the place of the colon or of the hyphen. A TYPE
    of more than 180 characters is cut, and ends with a mark (see `mark_of`).
    """
    text, rest = "", channel
    if found := _BEGINNING.match(channel):
        text = f"{found[1]}_{found[2]}" if found[1] else found[0]
        separator, rest = channel[found.end() : found.end() + 1], channel[found.end() + 1 :]
        text += {"-": "_", "_": "#5F"}.get(separator) or _NOT_IN_TYPE.sub(_replaced, separator)
    text = text + _NOT_IN_TYPE.sub(_replaced, rest) or UNNAMED_TYPE
    return text if len(text) <= _LONGEST else text[: _LONGEST - _DIGEST - 2] + mark_of(channel)


def mark_of(text: str) -> str:
    """Return `##` and hexadecimal digits computed from a text; only marked names contain them."""
    return f"##{hashlib.sha256(text.encode()).hexdigest()[:_DIGEST]}"


def object_of_channel(channel: str) -> str:
    """Return the HDF5 object name of a channel: its own name, with `%XX` for characters that HDF5 cannot hold."""
    return _NOT_IN_OBJECT.sub(lambda found: "".join(f"%{ord(character):02X}" for character in found[0]), channel)


def channel_of_object(name: str) -> str:
    """Return the channel of an HDF5 object name."""
    return unquote(name)


def _replaced(found: re.Match[str]) -> str:
    return "+" if found[0] == "-" else "".join(f"#{byte:02X}" for byte in found[0].encode())
