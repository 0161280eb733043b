"""Holdings, files and transactions in the shapes of NLDS' answers; nothing else in the gateway knows these."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from glitchflow_api.nlds.jobs import Job, NldsState, Part
from gwwire.holdings import Holding, HoldingFile, PathType
from gwwire.tiering import BatchLocality

Json = dict[str, Any]

#: NLDS' types of storage for where the bytes of a file are; what can be read at once is an object store for it.
_STORAGE = {
    BatchLocality.DISK: ("OBJECT_STORAGE",),
    BatchLocality.DISK_AND_TAPE: ("OBJECT_STORAGE", "TAPE"),
    BatchLocality.TAPE: ("TAPE",),
}


def isoformat(seconds: float) -> str:
    """Return a time as NLDS writes it: UTC, without saying so."""
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat(timespec="seconds")


def holding_shape(holding: Holding, transactions: Iterable[str]) -> Json:
    """Return a holding of `list`."""
    return {
        "id": holding.id,
        "label": holding.label,
        "user": holding.user,
        "group": holding.group or "",
        "tags": holding.tags,
        "transactions": list(transactions),
        "date": isoformat(holding.created),
    }


def meta_shape(holding: Holding) -> Json:
    """Return what `meta` shows of a holding before and after a change."""
    return {"label": holding.label, "tags": holding.tags}


def files_shape(
    holding: Holding, files: Sequence[HoldingFile], times: dict[str, float], url: Callable[[HoldingFile], str]
) -> Json:
    """Return a holding of `find` with some of its files, by transaction; `times` are those of transactions."""
    transactions: dict[str, Json] = {}
    for file in files:
        time = times.get(file.transaction, file.stored or holding.created)
        found = transactions.setdefault(
            file.transaction,
            {"transaction_id": file.transaction, "ingest_time": isoformat(time), "filelist": []},
        )
        found["filelist"].append(_file_shape(file, url))
    return {
        "label": holding.label,
        "holding_id": holding.id,
        "user": holding.user,
        "group": holding.group or "",
        "transactions": transactions,
    }


def _file_shape(file: HoldingFile, url: Callable[[HoldingFile], str]) -> Json:
    place = {
        "root": f"holdings/{file.holding}/files",
        "path": file.path,
        "access_time": isoformat(file.stored or 0),
    }
    urls = {"OBJECT_STORAGE": url(file), "TAPE": None}
    stored = _STORAGE.get(file.locality, ()) if file.type is PathType.FILE and file.locality else ()
    return {
        "original_path": file.path,
        "path_type": file.type,
        "link_path": file.link,
        "size": file.size,
        "user": None,  # the uid and the gid are not kept
        "group": None,
        "permissions": file.mode & 0o777,
        "holding_id": file.holding,
        "locations": [{"storage_type": each, **place, "url": urls[each]} for each in stored],
    }


def transaction_shape(job: Job, sub_records: list[Json]) -> Json:
    """Return a transaction of `stat`."""
    return {
        "id": job.number,
        "transaction_id": job.id,
        "user": job.user,
        "group": job.group or "",
        "job_label": job.job_label,
        "api_action": job.action,
        "creation_time": isoformat(job.created),
        "warnings": job.warnings,
        "label": job.label,
        "sub_records": sub_records,
    }


def sub_records(job: Job) -> list[Json]:
    """Return the parts of a transaction; one with complete and failed files is listed as two."""
    records: list[Json] = []
    for part in job.parts:
        mixed = part.state == NldsState.COMPLETE and bool(part.failed)
        records.append(_sub_record(len(records) + 1, part, part.id, part.state, failed=not mixed))
        if mixed:
            other = str(uuid5(NAMESPACE_URL, f"{part.id}/failed"))
            records.append(_sub_record(len(records) + 1, part, other, NldsState.FAILED, failed=True))
    return records


def _sub_record(number: int, part: Part, identity: str, state: NldsState, *, failed: bool) -> Json:
    return {
        "id": number,
        "sub_id": identity,
        "state": state.name,
        "last_updated": isoformat(part.updated),
        "failed_files": [{"filepath": each.path, "reason": each.reason} for each in part.failed] if failed else [],
    }


def overall_state(job: Job) -> NldsState:
    """Return the state of a transaction as NLDS' client derives it from the sub-records."""
    if not job.parts:
        return NldsState.SEARCHING
    states = [NldsState[record["state"]] for record in sub_records(job)]
    lowest = min(states)
    if lowest is NldsState.COMPLETE:
        if NldsState.FAILED in states:
            return NldsState.COMPLETE_WITH_ERRORS
        return NldsState.COMPLETE_WITH_WARNINGS if job.warnings else NldsState.COMPLETE
    return lowest
