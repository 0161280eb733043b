"""NLDS' `stat`: the transactions that a query selects, with their states."""

from glitchflow_api.nlds.jobs import Job, Jobs, Member, NldsState
from glitchflow_api.nlds.models import StatBody, StatQuery
from glitchflow_api.nlds.shapes import Json, overall_state, sub_records, transaction_shape
from gwservice.patterns import matcher
from gwwire.decoding import InvalidRequest

#: The name in NLDS' client for the state of a transaction that has not begun.
_QUEUED = "QUEUED"


def find_transactions(jobs: Jobs, member: Member, query: StatQuery, body: StatBody) -> list[Json]:
    """Return the transactions of a user, or with `groupall` of the group; raise InvalidRequest for a wrong state."""
    states = {_state(each) for each in body.state or ()}
    has_label = matcher(query.job_label, "job_label") if query.regex and query.job_label else query.job_label.__eq__
    found = []
    for job in reversed(list(jobs)) if query.descending else jobs:
        if not _is_visible(job, member, groupall=query.groupall) or not _is_asked_for(job, query, body):
            continue
        if query.job_label and not has_label(job.job_label or ""):
            continue
        records = _records(job, query, states)
        if records is not None:
            found.append(transaction_shape(job, records))
            if len(found) == query.limit:
                break
    return found


def _is_visible(job: Job, member: Member, *, groupall: bool) -> bool:
    return job.user == member.user or (groupall and member.group is not None and job.group == member.group)


def _is_asked_for(job: Job, query: StatQuery, body: StatBody) -> bool:
    return (
        query.id in {None, job.number}
        and (query.transaction_id is None or str(query.transaction_id) == job.id)
        and (not body.api_action or job.action in body.api_action)
        and job.action not in (body.exclude_api_action or ())
    )


def _records(job: Job, query: StatQuery, states: set[NldsState]) -> list[Json] | None:
    """Return the sub-records that are asked for, or None if the transaction is not."""
    records = sub_records(job)
    if query.sub_id is not None:
        records = [each for each in records if each["sub_id"] == str(query.sub_id)]
        if not records:
            return None
    if not states:
        return records
    having = [each for each in records if NldsState[each["state"]] in states]
    return having or (records if overall_state(job) in states else None)


def _state(text: str) -> NldsState:
    """Return a state by its name or number."""
    try:
        return (
            NldsState(int(text))
            if text.lstrip("-").isdecimal()
            else NldsState["SEARCHING" if text.upper() == "QUEUED" else text.upper()]
        )
    except (KeyError, ValueError):
        raise InvalidRequest(f"state: {text[:50]} is not valid", field="state") from None
