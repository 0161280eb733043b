"""The gateway's route of GraphQL."""

from typing import Any

import msgspec
from fastapi import APIRouter, Response

from glitchflow_api.openapi import described_order, problems
from glitchflow_api.routes import Logic, RelayedPage
from glitchflow_api.sessions import CurrentCaller
from gwservice.asgi import JsonBody
from gwwire.decoding import decode_order
from gwwire.public import GraphqlAnswer, GraphqlRequest

router = APIRouter(default_response_class=Response, tags=["search"])


@router.get("/graphql", tags=["page"], responses=problems())
async def explorer() -> Response:
    """Return the GraphQL explorer; it contains no data. It sends queries with POST."""
    return RelayedPage(b"/graphql?at=gateway")


@router.post("/graphql", **described_order(GraphqlRequest, GraphqlAnswer))
async def graphql(body: JsonBody, caller: CurrentCaller, logic: Logic) -> Response:
    """Answer a GraphQL query; the query `{ __schema { types { name } } }` returns the schema.

    An error in the query or of a field is in `errors`, with status 200. A query is at most 6 levels deep, and asks for
    at most 10 fields of Query, 1000 things in their lists, and 30,000 values of fields.
    """
    from glitchflow_api.graphql.execution import answer  # noqa: PLC0415 (12 MB, for those who use it)

    found: dict[str, Any] = await answer(decode_order(GraphqlRequest, body), logic, caller.group)
    return Response(msgspec.json.encode(found), media_type="application/json")
