"""The conditions of a write: which version of a record the caller knows (RFC 9110, section 13.1)."""

from typing import NamedTuple

from databuffer.errors import RecordChanged
from gwservice.headers import lists_etag
from gwwire.records import Record


class Preconditions(NamedTuple):
    """The If-Match and If-None-Match headers of a request; None allows every version, and a new record."""

    match: str | None = None
    none_match: str | None = None

    def check(self, present: Record | None) -> None:
        """Raise RecordChanged unless the present record, or its absence, is what the caller expects."""
        present_tag = etag(present) if present else ""
        now = f"its ETag is {present_tag}" if present_tag else "it does not exist"
        if self.match is not None and not (present_tag and lists_etag(self.match, present_tag)):
            raise RecordChanged(f"If-Match: {self.match}: the record changed; {now}", field="If-Match")
        if self.none_match is not None and present_tag and lists_etag(self.none_match, present_tag):
            raise RecordChanged(f"If-None-Match: {self.none_match}: {now}", field="If-None-Match")


ALWAYS = Preconditions()


def etag(record: Record) -> str:
    """Return the ETag of a record; renewals of leases do not change it."""
    return f'"{record.seq}"'
