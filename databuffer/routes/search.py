"""Search: facets."""

from fastapi import APIRouter, Request, Response

from databuffer.routes.common import Storage, json_response
from gwwire.query import parse_parameters

router = APIRouter()


@router.get("/facets", summary="Filters that narrow a query")
async def facets(request: Request, buffer: Storage) -> Response:
    """Return the values and ranges of the segments that a query selects, by filter."""
    return json_response(await buffer.search.facets(parse_parameters(request.query_params.multi_items())))
