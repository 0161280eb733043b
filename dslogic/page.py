"""The pages: HTML without data, which the browser fills, and their static files."""

from typing import cast

from flask import Blueprint, Response, current_app, json, render_template, request
from werkzeug.exceptions import NotFound

from dslogic.assets import Assets

page = Blueprint("page", __name__)

#: For files whose URL changes with their content.
_FOR_GOOD = "public, max-age=31536000, immutable"
#: Everything is loaded from this service; plots are drawn into images, as data.
_POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
_HEADERS = {"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin"}
_BOTH = ("overview", "coverage", "segments", "batches", "records", "steps", "facets", "bundles")
#: The routes that the pages call, by service; relative to the page, so that they work behind any prefix.
_ROUTES = {
    "gateway": {name: name for name in ("events", *_BOTH, "graphql", "whoami", "session", "thaw")}
    | {"freeze": "train", "clean": "cleanbuf"},
    "dslogic": {name: name for name in _BOTH} | {"freeze": "freezeds", "thaw": "thawds", "clean": "flushbuf"},
}


def _assets() -> Assets:
    return cast("Assets", current_app.extensions["assets"])


@page.get("/")
def shell() -> Response:
    """Return the status page; with `?at=gateway` it calls the gateway's routes instead of dslogic's."""
    return _shell("page.html")


@page.get("/search")
def search() -> Response:
    """Return the search page; the rest of its query is the search, which the browser reads."""
    return _shell("search.html")


@page.get("/graphql")
def graphql() -> Response:
    """Return the GraphQL explorer, for the gateway: dslogic itself answers no GraphQL."""
    if not _at_gateway():
        raise NotFound("the gateway answers GraphQL")
    return _shell("graphql.html")


def _at_gateway() -> bool:
    return request.args.get("at") == "gateway"


def _shell(template: str) -> Response:
    at_gateway = _at_gateway()
    routes = _ROUTES["gateway" if at_gateway else "dslogic"]
    status = "dspage" if at_gateway else "./"
    values = {"asset": _assets().url, "routes": json.dumps(routes), "status": status, "at_gateway": at_gateway}
    response = Response(render_template(template, **values))
    response.headers.update({**_HEADERS, "Cache-Control": "no-cache"})
    return response


@page.get("/static/<version>/<name>")
def static_file(version: str, name: str) -> Response:
    """Return a static file, compressed if the browser accepts that; a page of an older version gets the current one."""
    asset = _assets().find(name)
    if asset is None:
        raise NotFound(f"there is no {name}")
    current = version == asset.version
    headers = {**_HEADERS, "Cache-Control": _FOR_GOOD if current else "no-store", "Vary": "Accept-Encoding"}
    if not request.accept_encodings.quality("gzip"):
        return Response(asset.content, headers=headers, content_type=asset.media_type)
    headers["Content-Encoding"] = "gzip"
    return Response(asset.compressed, headers=headers, content_type=asset.media_type)
