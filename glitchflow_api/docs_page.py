"""The interactive documentation at /docs: Swagger UI, which shows /openapi.json and sends requests.

Its files are in the wheel of `fastapi-swagger`. All addresses are relative, so that it works behind any prefix.
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

from fastapi import HTTPException, Response

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>GlitchFlow Datastore: routes</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<main id="routes"></main>
<script src="docs/swagger-ui-bundle.js"></script>
<script type="module" src="docs/start.js"></script>
</body>
</html>
"""
#: The document does not know the prefix, so the gateway's address is taken from that of the page. The default of
#: `validatorUrl` is a server on the internet.
_START = """const answer = await fetch("openapi.json");
const url = new URL(".", location.href).href.slice(0, -1);
SwaggerUIBundle({
  spec: { ...(await answer.json()), servers: [{ url }] },
  dom_id: "#routes",
  validatorUrl: null,
});
"""
#: Swagger UI sets styles of elements, and draws its icons from `data:` addresses.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "max-age=3600",
}
_MEDIA_TYPES = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}


def docs_page() -> Response:
    """Return the page."""
    return Response(_PAGE, headers=_HEADERS, media_type="text/html")


def docs_file(name: str) -> Response:
    """Return a file that the page loads; raise HTTPException if it does not exist."""
    if name == "start.js":
        return Response(_START, headers=_HEADERS, media_type="text/javascript")
    if name not in _MEDIA_TYPES:
        raise HTTPException(404, f"there is no {name!r}; /docs is the documentation")
    return Response(_read(name), headers=_HEADERS, media_type=_MEDIA_TYPES[name])


@cache
def _read(name: str) -> bytes:
    """Return a file of the wheel, without importing its Python code."""
    spec = find_spec("fastapi_swagger")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("fastapi-swagger is not installed: the files of /docs are in its wheel")
    return (Path(next(iter(spec.submodule_search_locations))) / "resources" / name).read_bytes()
