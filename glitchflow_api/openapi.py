"""The parts of the OpenAPI document that FastAPI cannot derive from an endpoint that takes its body undecoded."""

import inspect
from typing import Any

import msgspec
from pydantic.json_schema import models_json_schema

from glitchflow_api.access import COOKIE, scope_needed
from glitchflow_api.events import EVENT_STREAM
from glitchflow_api.models import CleanOrder, ProblemDocument, Segment, SessionOrder, StreamAnswer, TrainOrder
from glitchflow_api.settings import AuthMode
from gwservice.security import OPEN_PATHS
from gwwire.coverage import Coverage
from gwwire.datastore import (
    Batch,
    Batches,
    Claim,
    ClaimOrder,
    LogTail,
    Manifest,
    ReleaseOrder,
    SegmentPage,
    Verification,
)
from gwwire.overview import Overview
from gwwire.problems import PROBLEM_TYPE
from gwwire.segment import NDJSON

_PROBLEMS = {
    400: "the body is not JSON",
    401: "a valid credential is needed",
    403: "the credential does not allow it, the user or the batch is somebody else's, or another site's page asks",
    404: "there is no such batch, segment or problem",
    408: "the request did not come in time",
    409: "another batch is in hand, this one is not in the state for that, or another worker has it",
    413: "the body is larger than MAX_BODY",
    415: "the body is not application/json",
    422: "a field is missing or wrong, or there is too much of it; `field` names it",
    429: "too many requests, or the group's quota is used up; see Retry-After",
    500: "a service failed; its log says more",
    502: "a lower tier cannot be reached, or answered something unexpected",
    503: "the queue is full (see Retry-After), or the volume failed",
    504: "a lower tier did not answer in time",
    507: "the volume is full",
}
_FROM_BELOW = (500, 502, 503, 504)


_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "makes trying again safe: the same key and bytes get the first answer",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}

_CREDENTIALS = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "an API key or a token; the scope it needs is named"},
    "cookie": {"type": "apiKey", "in": "cookie", "name": COOKIE, "description": "the same, kept by POST /session"},
}

# The models that only this module refers to: FastAPI puts those of the answers into the document by itself.
_MODELS = (Segment, StreamAnswer, TrainOrder, CleanOrder, SessionOrder, ProblemDocument)
_PASSED_ON = (
    Batches,
    Batch,
    Manifest,
    SegmentPage,
    ClaimOrder,
    ReleaseOrder,
    Claim,
    Overview,
    Coverage,
    LogTail,
    Verification,
)
_REFERENCE = "#/components/schemas/{model}"


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the problems of a route: those named, and those every route may meet below."""
    return {status: _problem(status) for status in sorted({*statuses, *_FROM_BELOW})}


def _problem(status: int) -> dict[str, Any]:
    return {"description": _PROBLEMS[status], "content": {PROBLEM_TYPE: {"schema": _reference(ProblemDocument)}}}


def text(description: str, *statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe an answer in plain text that the gateway gives by itself, and the problems of its route."""
    answer = {"description": description, "content": {"text/plain": {"schema": {"type": "string"}}}}
    return {200: answer, **{status: _problem(status) for status in statuses}}


def json_body(model: type) -> dict[str, Any]:
    """Describe a body that the endpoint takes undecoded."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": _reference(model)}}}}


def describe_streamdata(description: str) -> dict[str, Any]:
    """Describe /streamdata, which is no route of FastAPI's; `description` is the endpoint's docstring."""
    body = json_body(Segment)
    body["requestBody"]["content"][NDJSON] = {"schema": {"type": "string", "description": "a segment a line"}}
    answer = {
        "application/json": {"schema": _reference(StreamAnswer)},
        NDJSON: {"schema": {"type": "string", "description": "a StreamAnswer or a ProblemDocument a line"}},
    }
    responses = {200: {"description": "what became of it", "content": answer}, **problems(400, 413, 415, 422, 507)}
    operation = {
        "tags": ["data"],
        "summary": "Streamdata",
        "description": inspect.cleandoc(description),
        "operationId": "streamdata",
        "parameters": [_IDEMPOTENCY_KEY],
        "responses": {str(status): response for status, response in responses.items()},
    }
    return {"post": {**operation, **body}}


def described(shape: type, *statuses: int, status: int = 200) -> dict[int | str, dict[str, Any]]:
    """Describe an answer of `status` that is passed up undecoded, and the problems of its route."""
    schema = {"$ref": _REFERENCE.format(model=shape.__name__)}
    answer = {
        "description": (shape.__doc__ or "").partition("\n")[0],
        "content": {"application/json": {"schema": schema}},
    }
    return {status: answer, **problems(*statuses)}


def described_stream() -> dict[int | str, dict[str, Any]]:
    """Describe an answer of server-sent events, and the problems that come instead of it."""
    schema = {"type": "string", "description": "events `overview`, `segments`, `problem`; their data are JSON"}
    answer = {"description": "what happens, without an end", "content": {EVENT_STREAM: {"schema": schema}}}
    return {200: answer, **problems(422)}


def with_schemas(document: dict[str, Any]) -> dict[str, Any]:
    """Add the schemas that `problems` and `json_body` refer to."""
    _, schemas = models_json_schema([(model, "validation") for model in _MODELS], ref_template=_REFERENCE)
    _, passed_on = msgspec.json.schema_components(_PASSED_ON, ref_template="#/components/schemas/{name}")
    document["components"]["schemas"].update(schemas["$defs"] | passed_on)
    return document


def with_access(document: dict[str, Any], auth: AuthMode) -> dict[str, Any]:
    """Add what the gate asks of each operation and may answer instead of it."""
    if auth is not AuthMode.OFF:
        document["components"]["securitySchemes"] = _CREDENTIALS
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            needed = None if auth is AuthMode.OFF else scope_needed(method.upper(), path)
            if needed:
                operation["security"] = [{name: [needed]} for name in _CREDENTIALS]
                operation["responses"]["401"] = _problem(401)
            if needed or method != "get":
                operation["responses"]["403"] = _problem(403)
    return document


def with_limits(document: dict[str, Any]) -> dict[str, Any]:
    """Add what is answered to who asks too often, or sends too slowly."""
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if path not in OPEN_PATHS:
                operation["responses"]["429"] = _problem(429)
            if "requestBody" in operation:
                operation["responses"]["408"] = _problem(408)
    return document


def _reference(model: type) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(model=model.__name__)}
