"""Names that stand for a channel in the names of files and of HDF5 objects, where its own name may be impossible.

A channel may be any text. What stands for it is safe, differs between channels, and can be read back unless it was cut.
"""

import hashlib
import re

#: The type of segments that name no channel; it stands for no channel, because `#` is followed by hexadecimal digits.
UNNAMED_TYPE = "#unnamed"

#: Characters of a type; in a file name of 255 bytes this leaves room for the rest, and for that of a temporary file.
_LONGEST = 180
#: Of these, the digest of a type that is cut, with its `##`.
_DIGEST = 16
_IN_TYPE = re.compile(r"(?<=^[A-Z][0-9])(?:(:)|_)|[^0-9A-Za-z_]")
_IN_OBJECT = re.compile(r"[/%\x00]|^\.+\Z")


def type_of_channel(channel: str) -> str:
    """Return the TYPE that stands for a channel in a file name OBS-TYPE-GPSSTART-DURATION (LIGO-T050017).

    Letters, digits and `_` stand for themselves, `_` after the detector for `:`, `+` for `-`, and `#XX` for a byte of
    another character in UTF-8. A type of more than 180 characters is cut, and ends with a mark (see `mark_of`).
    """
    text = _IN_TYPE.sub(_replaced, channel) or UNNAMED_TYPE
    return text if len(text) <= _LONGEST else text[: _LONGEST - _DIGEST - 2] + mark_of(channel)


def mark_of(text: str) -> str:
    """Return `##` and hexadecimal digits that follow from a text; only what is marked has them."""
    return f"##{hashlib.sha256(text.encode()).hexdigest()[:_DIGEST]}"


def object_of_channel(channel: str) -> str:
    """Return the name of the HDF5 object that stands for a channel: its own, with `%XX` for what HDF5 cannot hold."""
    return _IN_OBJECT.sub(lambda found: "".join(f"%{ord(character):02X}" for character in found[0]), channel)


def _replaced(found: re.Match[str]) -> str:
    if found[1]:
        return "_"
    return "+" if found[0] == "-" else "".join(f"#{byte:02X}" for byte in found[0].encode())
