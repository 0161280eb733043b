"""Bundles: make, look up, download, cancel."""

import asyncio
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from databuffer.routes.common import Group, Storage, json_response
from databuffer.search.archive import Archive
from databuffer.search.bundles import Bundles
from gwservice.asgi import no_such_range
from gwservice.asgi_types import Receive, Scope, Send
from gwservice.body import read_body, require_json, while_connected
from gwservice.headers import lists_etag
from gwservice.ranges import Unsatisfiable, requested_range
from gwwire.bundles import Bundle, BundleOrder, BundleState
from gwwire.decoding import decode_order
from gwwire.records import LONGEST_WAIT

router = APIRouter()

#: Bytes of an order; one with many names is larger than other orders.
_LARGEST_ORDER = 1_000_000
#: Bytes that are read and sent at a time.
_PORTION = 1024 * 1024


class ArchiveResponse(Response):
    """Sends an archive, or a range of it, and keeps its files meanwhile."""

    def __init__(self, bundles: Bundles, archive: Archive, span: tuple[int, int] | None, etag: str) -> None:
        start, stop = span or (0, archive.size)
        headers = {
            "Accept-Ranges": "bytes",
            "Content-Disposition": f'attachment; filename="{archive.name}"',
            "Content-Length": str(stop - start),
            "ETag": etag,
        }
        if span:
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{archive.size}"
        super().__init__(status_code=206 if span else 200, headers=headers, media_type=archive.media_type)
        self._bundles, self._archive, self._start, self._stop = bundles, archive, start, stop

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the bytes; they are read in threads."""
        with self._bundles.space.reading(self._archive.bundle):
            head = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            await send(head)
            if scope["method"] != "HEAD":
                await while_connected(receive, self._send(send))

    async def _send(self, send: Send) -> None:
        portions = self._archive.read(self._start, self._stop, _PORTION)
        loop = asyncio.get_running_loop()
        while portion := await loop.run_in_executor(self._bundles.threads, next, portions, b""):
            await send({"type": "http.response.body", "body": portion, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


@router.post("/bundles", summary="Make a bundle")
async def make_bundle(request: Request, buffer: Storage, group: Group = None) -> Response:
    """Take `{"query" or "names", "format"}`; return the bundle, with 202 while its archive is being built."""
    headers = dict(request.scope["headers"])
    require_json(headers)
    limit = min(request.app.state.max_body, _LARGEST_ORDER)
    body = b"".join(await read_body(request.receive, headers, limit=limit, limit_name="the limit of this order"))
    bundle, age = await buffer.bundles.make(decode_order(BundleOrder, body), group)
    response = _answer(bundle)
    response.headers["Age"] = str(int(age))
    return response


@router.get("/bundles/{bundle}", summary="One bundle")
async def one_bundle(
    bundle: str,
    request: Request,
    buffer: Storage,
    wait: Annotated[float, Query(ge=0, le=LONGEST_WAIT)] = 0,
    after: Annotated[int | None, Query(ge=0, le=100)] = None,
) -> Response:
    """Return a bundle by its id, with its state and percent.

    While it is being built, the answer waits up to `wait` s: for the end, or for a percent other than `after`.
    """
    return json_response(await buffer.bundles.next_state(bundle, after, wait, request.is_disconnected))


@router.get("/bundles/{bundle}/archive", summary="Archive of a bundle")
async def bundle_archive(bundle: str, request: Request, buffer: Storage, group: Group = None) -> Response:
    """Return the archive of a bundle; ranges are served, also before anything was downloaded."""
    return _archive_response(request, buffer.bundles, await buffer.bundles.archive(bundle, group))


@router.get("/bundles/{bundle}/files/{name}", summary="The strain file of a bundle of one channel")
async def bundle_file(bundle: str, name: str, request: Request, buffer: Storage, group: Group = None) -> Response:
    """Return the file under a name of the caller's choice, as the archive is returned."""
    return _archive_response(request, buffer.bundles, await buffer.bundles.file(bundle, name, group))


@router.delete("/bundles/{bundle}", summary="Cancel a bundle")
async def cancel_bundle(bundle: str, buffer: Storage) -> Response:
    """Stop the building of an archive, or delete it."""
    return json_response(await buffer.bundles.cancel(bundle))


def _archive_response(request: Request, bundles: Bundles, archive: Archive) -> Response:
    etag = f'"{archive.digest}"'
    if lists_etag(request.headers.get("if-none-match", ""), etag):
        return Response(status_code=304, headers={"ETag": etag})
    try:
        span = requested_range(request.headers.get("range"), request.headers.get("if-range"), archive.size, etag)
    except Unsatisfiable:
        return no_such_range("the archive", archive.size, {"ETag": etag})
    return ArchiveResponse(bundles, archive, span, etag)


def _answer(bundle: Bundle) -> Response:
    return json_response(bundle, HTTPStatus.OK if bundle.state is BundleState.READY else HTTPStatus.ACCEPTED)
