"""The page: a shell without data, which the browser fills, and its static files."""

from typing import cast

from flask import Blueprint, Response, current_app, json, render_template, request
from werkzeug.exceptions import NotFound

from dslogic.assets import Assets

page = Blueprint("page", __name__)

#: How long a browser keeps a file whose address changes with its content.
_FOR_GOOD = "public, max-age=31536000, immutable"
#: Everything comes from here; plots are drawn into images of their own, as data.
_POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
_HEADERS = {"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin"}

#: What the page asks, by the door it came through; relative to the page, so that it works behind any prefix.
_ROUTES = {
    "gateway": {
        "events": "events",
        "overview": "overview",
        "coverage": "coverage",
        "segments": "segments",
        "batches": "batches",
        "log": "log",
        "whoami": "whoami",
        "session": "session",
        "freeze": "train",
        "thaw": "thaw",
        "clean": "cleanbuf",
    },
    "dslogic": {
        "overview": "overview",
        "coverage": "coverage",
        "segments": "segments",
        "batches": "batches",
        "log": "dumpflog",
        "freeze": "freezeds",
        "thaw": "thawds",
        "clean": "flushbuf",
    },
}


def _assets() -> Assets:
    return cast("Assets", current_app.extensions["assets"])


@page.get("/")
def shell() -> Response:
    """Give the page; `?at=gateway` has it ask the gateway's routes instead of dslogic's own."""
    routes = _ROUTES["gateway" if request.args.get("at") == "gateway" else "dslogic"]
    response = Response(render_template("page.html", asset=_assets().url, routes=json.dumps(routes)))
    response.headers.update({**_HEADERS, "Cache-Control": "no-cache"})
    return response


@page.get("/static/<version>/<name>")
def static_file(version: str, name: str) -> Response:
    """Give a static file, compressed where the browser takes that.

    A page that an older version gave may ask for its files here: it gets today's, which nobody keeps.
    """
    asset = _assets().find(name)
    if asset is None:
        raise NotFound(f"there is no {name}")
    current = version == asset.version
    headers = {**_HEADERS, "Cache-Control": _FOR_GOOD if current else "no-store", "Vary": "Accept-Encoding"}
    if not request.accept_encodings.quality("gzip"):
        return Response(asset.content, headers=headers, content_type=asset.media_type)
    headers["Content-Encoding"] = "gzip"
    return Response(asset.compressed, headers=headers, content_type=asset.media_type)
