"""Names that stand for a channel in the names of files and of HDF5 objects, where its own name may be impossible.

A channel may be any text. What stands for it is safe, differs between channels, and can be read back unless it was cut.
"""

import hashlib
import re
from urllib.parse import unquote

#: The type of segments that name no channel; it stands for no channel, because `#` is followed by hexadecimal digits.
UNNAMED_TYPE = "#unnamed"

#: Characters of a type; in a file name of 255 bytes this leaves room for the rest, and for that of a temporary file.
_LONGEST = 180
#: Of these, the digest of a type that is cut, with its `##`.
_DIGEST = 16
#: The detector and the system of `DET:SYSTEM-NAME`; or a name that would be read as one that begins with a detector.
_BEGINNING = re.compile(r"([A-Z][0-9]):([0-9A-Za-z]*)|[A-Z][0-9](?=_)")
_NOT_IN_TYPE = re.compile("[^0-9A-Za-z_]")
_NOT_IN_OBJECT = re.compile(r"[/%\x00]|^\.+\Z")


def type_of_channel(channel: str) -> str:
    """Return the TYPE that stands for a channel in a file name OBS-TYPE-GPSSTART-DURATION (LIGO-T050017).

    `DET_SYSTEM_NAME` stands for `DET:SYSTEM-NAME`. Elsewhere letters, digits and `_` stand for themselves, `+` for `-`,
    and `#XX` for a byte of another character in UTF-8, also for a `_` in the place of the colon or of the hyphen. A
    type of more than 180 characters is cut, and ends with a mark (see `mark_of`).
    """
    text, rest = "", channel
    if found := _BEGINNING.match(channel):
        text = f"{found[1]}_{found[2]}" if found[1] else found[0]
        separator, rest = channel[found.end() : found.end() + 1], channel[found.end() + 1 :]
        text += {"-": "_", "_": "#5F"}.get(separator) or _NOT_IN_TYPE.sub(_replaced, separator)
    text = text + _NOT_IN_TYPE.sub(_replaced, rest) or UNNAMED_TYPE
    return text if len(text) <= _LONGEST else text[: _LONGEST - _DIGEST - 2] + mark_of(channel)


def mark_of(text: str) -> str:
    """Return `##` and hexadecimal digits that follow from a text; only what is marked has them."""
    return f"##{hashlib.sha256(text.encode()).hexdigest()[:_DIGEST]}"


def object_of_channel(channel: str) -> str:
    """Return the name of the HDF5 object that stands for a channel: its own, with `%XX` for what HDF5 cannot hold."""
    return _NOT_IN_OBJECT.sub(lambda found: "".join(f"%{ord(character):02X}" for character in found[0]), channel)


def channel_of_object(name: str) -> str:
    """Return the channel that the name of an HDF5 object stands for."""
    return unquote(name)


def _replaced(found: re.Match[str]) -> str:
    return "+" if found[0] == "-" else "".join(f"#{byte:02X}" for byte in found[0].encode())
