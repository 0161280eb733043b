"""The fields of Query and Mutation: each asks dslogic what another route of the gateway would ask.

Attributes of the models in `gwwire` are the fields of the same name; what they do not have is derived here.
"""

from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from graphql import GraphQLResolveInfo, GraphQLSchema

from glitchflow_api.graphql.limits import MOST_THINGS
from glitchflow_api.graphql.shortening import few_channels, shortened_bundle, shortened_coverage, shortened_facets
from glitchflow_api.logic_client import LogicClient
from gwservice.upstream import UpstreamProblem
from gwwire.bundles import Bundle, BundleFormat, BundleOrder
from gwwire.decoding import InvalidRequest
from gwwire.detectors import describe, detector_of
from gwwire.facets import Facets
from gwwire.public import Batch, Batches, ChannelCoverage, Coverage, SegmentPage, SegmentRecord
from gwwire.query import Query, parse_parameters, to_parameters
from gwwire.records import Record, RecordPage
from gwwire.spans import gaps, stop_of

_NOT_FOUND = 404
Parameters = list[tuple[str, str]]
Info = GraphQLResolveInfo[Any]
T = TypeVar("T")


class Root:
    """Resolves the fields of Query and Mutation, with the arguments of the schema."""

    def __init__(self, logic: LogicClient, group: str | None) -> None:
        self._logic, self._group = logic, group

    async def segments(self, _: Info, /, **arguments: Any) -> SegmentPage:
        """Return a page of segments."""
        return await self._get("/segments", _page(arguments, "after", "before"), SegmentPage)

    async def batches(self, _: Info, /, *, first: int, after: str | None = None) -> list[Batch]:
        """Return batches from the one after `after` on; batch ids are in the order of opening."""
        found = (await self._get("/batches", [], Batches)).batches
        start = next((i + 1 for i, batch in enumerate(found) if batch.id == after), 0 if after is None else len(found))
        return found[start : start + _checked(first)]

    async def batch(self, _: Info, /, *, id: str) -> Batch | None:  # noqa: A002 (the schema's name)
        """Return one batch, or None."""
        return await self._find("/batches/", quote(id, safe=""), Batch)

    async def records(self, _: Info, /, **arguments: Any) -> RecordPage:
        """Return a page of records."""
        return await self._get("/records", _page(arguments, "kind", "after"), RecordPage)

    async def record(self, _: Info, /, *, id: str) -> Record | None:  # noqa: A002 (the schema's name)
        """Return one record, or None."""
        return await self._find("/records/", quote(id), Record)

    async def coverage(self, _: Info, /, **arguments: Any) -> list[ChannelCoverage]:
        """Return the time that a query covers, by channel and sample spacing."""
        found = (await self._get("/coverage", _page(arguments), Coverage)).channels
        return shortened_coverage(few_channels(found), arguments["first"])

    async def facets(self, _: Info, /, *, first: int, where: Mapping[str, Any] | None = None) -> Facets:
        """Return the filters that narrow a query."""
        most = _checked(first)
        return shortened_facets(await self._get("/facets", to_parameters(_query(where or {})), Facets), most)

    async def bundle(self, _: Info, /, *, id: str, first: int) -> dict[str, Any] | None:  # noqa: A002 (the schema's name)
        """Return one bundle, or None."""
        most = _checked(first)
        found = await self._find("/bundles/", quote(id, safe=""), Bundle)
        return None if found is None else shortened_bundle(found, most)

    async def request_bundle(
        self,
        _: Info,
        /,
        *,
        first: int,
        format: str,  # noqa: A002 (the schema's name)
        where: Mapping[str, Any] | None = None,
        names: list[str] | None = None,
    ) -> dict[str, Any]:
        """Make a bundle."""
        most, query = _checked(first), None if where is None else _query(where)
        order = BundleOrder(BundleFormat(format), query, None if names is None else tuple(names))
        return shortened_bundle(await self._logic.make_bundle(order, self._group), most)

    async def _get(self, path: str, parameters: Parameters, shape: type[T]) -> T:
        return await self._logic.get(f"{path}?{urlencode(parameters)}" if parameters else path, shape)

    async def _find(self, folder: str, identity: str, shape: type[T]) -> T | None:
        """Return what is at `folder` and an encoded id, or None; no part of an id is empty, as those of a redirect."""
        if not all(identity.split("/")):
            return None
        try:
            return await self._logic.get(folder + identity, shape)
        except UpstreamProblem as problem:
            if problem.answer.status == _NOT_FOUND:
                return None
            raise


def add_resolvers(schema: GraphQLSchema) -> None:
    """Set the resolvers of fields that the models do not have."""
    fields: Mapping[str, Mapping[str, Any]] = {
        "Mutation": {"requestBundle": lambda root, info, **arguments: root.request_bundle(info, **arguments)},
        "Segment": {
            "detector": lambda segment, _: detector_of(segment.channel),
            "facility": lambda segment, _: _described(segment, "facility"),
            "site": lambda segment, _: _described(segment, "site"),
            "instrument": lambda segment, _: _described(segment, "instrument"),
            "stop": lambda segment, _: stop_of(segment.t0, segment.n, segment.dt),
        },
        "Bundle": {
            "covered": lambda bundle, _: few_channels(bundle["covered"]),
            "gaps": lambda bundle, _: few_channels(bundle["gaps"]),
        },
        "Coverage": {
            "spans": lambda coverage, _: [
                {"start": start, "stop": stop, "segments": segments} for start, stop, segments in coverage.spans
            ],
            "gaps": lambda coverage, _: [
                {"start": start, "stop": stop} for start, stop in gaps(coverage.spans, coverage.dt)
            ],
        },
    }
    for name, resolvers in fields.items():
        for field, resolve in resolvers.items():
            schema.type_map[name].fields[field].resolve = resolve  # type: ignore[attr-defined]  # an object type


def _described(segment: SegmentRecord, attribute: str) -> str | None:
    detector = detector_of(segment.channel)
    return None if detector is None else getattr(describe(detector), attribute)


def _page(arguments: Mapping[str, Any], *names: str) -> Parameters:
    """Return the arguments of a list as the parameters of its route."""
    parameters = to_parameters(_query(arguments.get("where") or {}))
    parameters += [(name, _text(arguments[name])) for name in names if arguments.get(name) is not None]
    return [*parameters, ("limit", str(_checked(arguments["first"])))]


def _query(where: Mapping[str, Any]) -> Query:
    """Return a filter of the schema as a query."""
    return parse_parameters(
        ("condition" if name == "conditions" else name, _text(value))
        for name, given in where.items()
        for value in (given if isinstance(given, list) else [given])
        if value is not None
    )


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else repr(value)


def _checked(first: int | None) -> int:
    if first is None or not 1 <= first <= MOST_THINGS:
        raise InvalidRequest(f"first: expected 1 to {MOST_THINGS}, got {first}", field="first")
    return first
