"""The names and secrets that clients choose: of users, workers, steps, and the token of a freeze."""

from typing import Annotated

from msgspec import Meta

#: Control characters, line separators, blanks other than the space, and characters that only change how others look.
_UNSEEN = r"\x00-\x1f\x7f-\xa0\xad\u061c\u1680\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff\ufff9-\ufffb"
#: `$` alone also matches before a last line break.
PRINTABLE = rf"^[^ {_UNSEEN}]([^{_UNSEEN}]*[^ {_UNSEEN}])?$(?!\n)"
TAG_NAME = r"^[\w.-]{1,50}$(?!\n)"
UUID = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$(?!\n)"
PRINTABLE_WORDS = "expected printable characters, without line breaks, control characters and blanks at the ends"
#: The rules of patterns in words.
RULES = {
    PRINTABLE: PRINTABLE_WORDS,
    TAG_NAME: "expected names of at most 50 letters, digits, '_', '.' and '-'",
    UUID: "expected a UUID in lower case",
}

#: As long as the subject of a token (RFC 7519, OpenID Connect) may be.
UserName = Annotated[str, Meta(min_length=1, max_length=255, pattern=PRINTABLE)]
WorkerName = Annotated[str, Meta(min_length=1, max_length=200, pattern=PRINTABLE)]
HolderToken = Annotated[str, Meta(min_length=1, max_length=4096, pattern=PRINTABLE)]
#: Only names of the datastore's own steps contain a colon.
StepName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,99}$(?!\n)")]
#: Any other short text.
Text = Annotated[str, Meta(min_length=1, max_length=200, pattern=PRINTABLE)]


def printable(text: str) -> str:
    """Return a text for a terminal: line breaks and characters that control it, or only change others, are escaped."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
