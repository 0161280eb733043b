"""The gateway's route of GraphQL."""

from typing import Any

import msgspec
from fastapi import APIRouter, Response

from glitchflow_api.openapi import described_order
from glitchflow_api.routes import Logic
from gwservice.asgi import JsonBody
from gwwire.decoding import decode_order
from gwwire.public import GraphqlAnswer, GraphqlRequest

router = APIRouter(default_response_class=Response, tags=["search"])


@router.post("/graphql", **described_order(GraphqlRequest, GraphqlAnswer))
async def graphql(body: JsonBody, logic: Logic) -> Response:
    """Answer a GraphQL query; it tells its schema to who asks for it, as `{ __schema { types { name } } }` does.

    An error in the query or of a field is in `errors`, with status 200. A query is at most 6 levels deep, and asks for
    at most 10 fields of Query and 1000 things in their lists.
    """
    from glitchflow_api.graphql.execution import answer  # noqa: PLC0415 (12 MB, for those who use it)

    found: dict[str, Any] = await answer(decode_order(GraphqlRequest, body), logic)
    return Response(msgspec.json.encode(found), media_type="application/json")
