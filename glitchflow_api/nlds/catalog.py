"""NLDS' `list`, `find` and `meta` over the routes of holdings; a refusal is a soft failure, as in NLDS."""

from collections.abc import Callable, Mapping
from typing import Any

from glitchflow_api.nlds.calls import CALL_FAILED, HoldingCalls, code_of, detail_of
from glitchflow_api.nlds.jobs import part_id
from glitchflow_api.nlds.models import HoldingQuery
from glitchflow_api.nlds.selection import Selection, find_holdings, not_found
from glitchflow_api.nlds.shapes import Json, files_shape, holding_shape, meta_shape
from gwwire.decoding import InvalidRequest
from gwwire.holdings import Holding, HoldingFile, HoldingPatch, TransactionKind
from gwwire.problems import ProblemCode

#: Holdings of which the transactions are asked for one by one; of more, those of the user or group are read at once.
_FEW = 20
#: Files in an answer to `find` without a limit.
_MOST_FILES = 100_000
#: Parts of a transaction that a search by it considers, of up to 1000 files each.
_MOST_PARTS = 1000
#: Refusals of a change that are returned to the caller as soft failures.
_REFUSALS = frozenset(
    {ProblemCode.NOT_FOUND, ProblemCode.NOT_OWNER, ProblemCode.LABEL_TAKEN, ProblemCode.INVALID_REQUEST}
)


class SoftFailure(Exception):
    """There is no result; the message is the `failure` in an answer of NLDS."""


async def list_holdings(calls: HoldingCalls, selection: Selection, query: HoldingQuery) -> list[Json]:
    """Return the holdings of `list`."""
    found = await _selected(calls, selection, limit=query.limit, descending=query.descending)
    transactions = await _transactions(calls, selection, found)
    return [holding_shape(each, transactions[each.id]) for each in found]


async def find(
    calls: HoldingCalls, selection: Selection, query: HoldingQuery, url: Callable[[HoldingFile], str]
) -> dict[str, Json]:
    """Return the holdings of `find`, by label, with their files whose path is, or with `regex` matches, that asked."""
    path, limit = query.path, query.limit
    exact = None if selection.regex else path
    holdings = await find_holdings(calls, selection, descending=query.descending, path=exact)
    if not holdings and exact is None:
        raise SoftFailure(not_found(selection))
    transactions = await _transactions(calls, selection, holdings)
    filters = {"regex" if selection.regex else "path": path}
    parts = selection.transaction and {part_id(selection.transaction, position) for position in range(_MOST_PARTS)}
    shapes: dict[str, Json] = {}
    left = _MOST_FILES + 1 if limit is None else limit
    for holding in holdings:
        files: list[HoldingFile] = []
        async for each in calls.files(holding.id, **filters):
            if len(files) == left:
                break
            if parts is None or each.transaction in parts:
                files.append(each)
        left -= len(files)
        if files:
            key = holding.label if holding.label not in shapes else f"{holding.label} ({holding.id})"
            shapes[key] = files_shape(holding, files, transactions[holding.id], url)
        if left == 0:
            break
    if limit is None and left == 0:
        raise InvalidRequest(f"more than {_MOST_FILES:,} files; select fewer, or give a limit", field="limit")
    if not shapes:
        raise SoftFailure(f"no files found{selection.described()}{f' with path:{path}' if path else ''}")
    return shapes


async def change(
    calls: HoldingCalls, selection: Selection, label: str | None, tags: Mapping[str, str], removed: Mapping[str, str]
) -> list[Json]:
    """Change label and tags of the selected holdings, and return the holdings of `meta`."""
    if not selection.is_specific:
        raise SoftFailure("give the label, the holding_id or the tag of the holding to change")
    holdings = await _selected(calls, selection)
    if label and len(holdings) > 1:
        raise SoftFailure(f"{len(holdings)} holdings selected; only one can have the label {label}")
    shapes = []
    for holding in holdings:
        if missing := [f"{name}:{value}" for name, value in removed.items() if holding.tags.get(name) != value]:
            raise SoftFailure(f"holding {holding.label} does not have the tag {', '.join(missing)}")
        changes = HoldingPatch(label or None, {**tags, **dict.fromkeys(removed)})
        try:
            changed = await calls.patch(holding.id, changes)
        except CALL_FAILED as error:
            if code_of(error) in _REFUSALS:
                raise SoftFailure(detail_of(error)) from error
            raise
        shapes.append(
            {
                "id": holding.id,
                "user": holding.user,
                "group": holding.group or "",
                "old_meta": meta_shape(holding),
                "new_meta": meta_shape(changed),
            }
        )
    return shapes


async def _selected(
    calls: HoldingCalls, selection: Selection, *, limit: int | None = None, descending: bool = False
) -> list[Holding]:
    found = await find_holdings(calls, selection, limit=limit, descending=descending)
    if not found:
        raise SoftFailure(not_found(selection))
    return found


async def _transactions(
    calls: HoldingCalls, selection: Selection, holdings: list[Holding]
) -> dict[int, dict[str, float]]:
    """Return the times of the transactions that put files into holdings, by id."""
    found: dict[int, dict[str, float]] = {each.id: {} for each in holdings}
    filters: list[dict[str, Any]] = [{"holding": each.id} for each in holdings]
    if len(holdings) > _FEW:
        filters = [{"group": selection.group} if selection.groupall else {"user": selection.user}]
    for each in filters:
        async for transaction in calls.transactions(kind=TransactionKind.PUT, **each):
            if transaction.holding in found:
                found[transaction.holding][transaction.id] = transaction.time
    return found
