"""The parts of the OpenAPI document that FastAPI cannot derive: the routes take and return undecoded bodies.

The schemas are those of the models in `gwwire`.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import msgspec

from glitchflow_api.access import COOKIE, scope_needed
from glitchflow_api.events import EVENT_STREAM
from gwservice.security import OPEN_PATHS
from gwwire import bundles, facets, holdings, overview, public, records, tape, tiering
from gwwire.problems import PROBLEM_TYPE, Problem
from gwwire.segment import KEY_HEADER, KEYS_HEADER, NDJSON, Segment

#: Response descriptions by status, as FastAPI's `responses` parameter takes them.
Responses = dict[int | str, dict[str, Any]]

_PROBLEMS = {
    400: "the body is not JSON",
    401: "a valid credential is needed",
    403: "the credential does not allow it, the user, batch or record is not the caller's, or another site sent it",
    404: "the batch, segment, holding, file, transaction or problem does not exist",
    408: "the request did not arrive in time",
    409: "the batch is another one, not in the required state, or another worker has it; or the archive is not built;"
    " or nothing has reached the seq yet; or a label is taken, or the bytes do not continue the file",
    412: "the record is not as If-Match or If-None-Match expects",
    413: "the body is larger than MAX_BODY",
    415: "the body is not application/json",
    416: "no byte is in the range",
    422: "a field or parameter is missing, wrong or too large; `field` names it",
    426: "the request is not the handshake of a WebSocket",
    429: "too many requests, or the group's quota is used up; see Retry-After",
    500: "a service failed; its log has the details",
    502: "a lower service cannot be reached, or its answer is invalid",
    503: "the queue is full (see Retry-After), or the volume failed",
    504: "a lower service did not answer in time",
    507: "the volume is full",
}
_OF_LOWER_TIERS = (500, 502, 503, 504)

_IDEMPOTENCY_KEY = {
    "name": KEY_HEADER,
    "in": "header",
    "description": "makes a retry safe: the same key and bytes get the first answer",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}
_IDEMPOTENCY_KEYS = {
    "name": KEYS_HEADER,
    "in": "header",
    "description": f"for {NDJSON}: the key of each line, separated by commas, instead of `KEY/i`",
    "schema": {"type": "string", "pattern": r"^[!-+\--~]{1,255}(, ?[!-+\--~]{1,255})*$"},
}

_CREDENTIALS = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "an API key or a token with the required scope"},
    "cookie": {
        "type": "apiKey",
        "in": "cookie",
        "name": COOKIE,
        "description": "the same credential, stored by POST /session",
    },
}

_REFERENCE = "#/components/schemas/{name}"
#: The public models.
MODELS: tuple[type[msgspec.Struct], ...] = (
    Problem,
    Segment,
    *(
        each
        for module in (public, overview, records, facets, bundles, tiering, tape, holdings)
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, msgspec.Struct) and each is not msgspec.Struct
    ),
)
#: Examples of bodies and answers, per model.
EXAMPLES: Mapping[type, list[msgspec.Struct]] = {
    Segment: [Segment([2.1e-19, 2.3e-19, 1.9e-19], (1126259462.0, 1 / 4096), {"channel": "L1:GWOSC-4KHZ_R1_STRAIN"})],
    public.TrainOrder: [public.TrainOrder("alice", "a-secret")],
    public.ThawOrder: [public.ThawOrder("alice", "a-secret")],
    public.CleanOrder: [public.CleanOrder("training of 2026-11-20 is done")],
    tape.StageOrder: [tape.StageOrder([tape.StageFile("/segments/gwb1724170688599724923.json")])],
    tape.PathList: [tape.PathList(["/segments/gwb1724170688599724923.json"])],
    tiering.TieringOrder: [tiering.TieringOrder(tiering.Tiering(("object", "tape"), 7 * 86_400))],
    holdings.TransactionOrder: [
        holdings.TransactionOrder(
            [holdings.NewFile("/data/run 1/a.h5", size=1024)], label="run 1", tags={"site": "LLO"}
        )
    ],
    public.SessionOrder: [public.SessionOrder("gf_0123456789ab_a-key-as-glitchflow-keys-showed-it")],
    public.Stats: [public.Stats(128, 12582912)],
    public.NameList: [public.NameList(["gwb1724170688599724923.json"])],
    public.StreamAnswer: [
        public.StreamAnswer("CREATED", "Written gwb1724170688599724923.json for 7130 bytes"),
        public.StreamAnswer("FROZEN", "Datastore frozen."),
    ],
    public.TrainFrozen: [public.TrainFrozen(512, 50331648, "alice", "b1795224029597668971", "5211e97b2ad7…")],
    public.CleanAnswer: [public.CleanAnswer("CLEANED", "Archived 512 segments, 50331648 bytes in '2026-11-20 23 41'")],
    public.Whoami: [public.Whoami("keys", "alice", "detchar", ["read", "train"])],
}


def json_response(shape: Any, status: int = 200) -> Responses:
    """Return the description of a JSON answer; `shape` is a model or a union of models."""
    schema, text = _schema(shape), inspect.getdoc(shape) if isinstance(shape, type) else None
    description = (text or "one of these").partition("\n")[0]
    return {status: {"description": description, "content": {"application/json": {"schema": schema}}}}


def problems(*statuses: int) -> Responses:
    """Return the descriptions of a route's own problems, and of those of the lower services."""
    return {status: _problem(status) for status in sorted({*statuses, *_OF_LOWER_TIERS})}


def responses(shape: Any, *statuses: int, status: int = 200) -> Responses:
    """Return the descriptions of a JSON answer, and of the problems of a route that calls the lower services."""
    return json_response(shape, status) | problems(*statuses)


def text(description: str, *statuses: int) -> Responses:
    """Return the descriptions of a plain text answer of the gateway itself, and of its route's problems."""
    answer = {"description": description, "content": {"text/plain": {"schema": {"type": "string"}}}}
    return {200: answer, **{status: _problem(status) for status in statuses}}


def described_stream() -> Responses:
    """Return the descriptions of an answer of server-sent events, and of the problems of its route."""
    schema = {
        "type": "string",
        "description": "events `overview`, `segments`, `change`, `steps`, `bundle`, `problem`; their data are JSON",
    }
    answer = {"description": "an endless stream of events", "content": {EVENT_STREAM: {"schema": schema}}}
    return {200: answer, **problems()}


def described_socket() -> Responses:
    """Return the descriptions of the answers to the handshake of a WebSocket."""
    return {101: {"description": "a WebSocket, with texts"}, **problems(404, 426)}


def described_feed() -> Responses:
    """Return the descriptions of the change feed, and of the problems of its route."""
    lines = _lines("a Record or a Mark per line; empty lines between them", records.Record, records.Mark)
    return {200: {"description": "records as they change", "content": lines}, **problems(409, 422)}


def described_archive() -> Responses:
    """Return the descriptions of the archive of a bundle, of a range of it, and of the problems of its route."""
    manifest = {"application/json": {"schema": _schema(bundles.BundleManifest)}}
    return _described_file("archive", _binary("application/x-tar") | manifest)


def described_strain_file() -> Responses:
    """Return the descriptions of a strain file, of a range of it, and of the problems of its route."""
    return _described_file("file", _binary("application/x-hdf5") | _binary("application/octet-stream"), 422, 507)


def described_holding_file() -> Responses:
    """Return the descriptions of a file of a holding, of a range of it, and of the problems of its route."""
    return _described_file("file", _binary("application/octet-stream"))


def described_upload() -> dict[str, Any]:
    """Return the arguments of the route that takes bytes of a file: its body, its answer and its problems."""
    body = {"required": True, "content": _binary("application/octet-stream")}
    answers = _with_offset(responses(holdings.Upload, 400, 404, 409, 413, 415, 422, 507))
    return {"openapi_extra": {"requestBody": body}, "responses": answers}


def described_progress(*statuses: int) -> Responses:
    """Return the descriptions of how much of a file has arrived, and of the problems of its route."""
    return _with_offset(responses(holdings.Upload, 404, 422, *statuses))


def _with_offset(answers: Responses) -> Responses:
    headers = {
        "Upload-Offset": {"description": "bytes that have arrived", "schema": {"type": "integer"}},
        "Upload-Complete": {"description": "`?1` or `?0`", "schema": {"type": "string"}},
    }
    return answers | {200: answers[200] | {"headers": headers}}


def _described_file(what: str, content: dict[str, Any], *statuses: int) -> Responses:
    texts = {200: f"the {what}", 206: "a range of it"}
    answers: Responses = {status: {"description": text, "content": content} for status, text in texts.items()}
    return answers | problems(404, 409, 416, *statuses)


def _binary(media_type: str) -> dict[str, Any]:
    return {media_type: {"schema": {"type": "string", "contentMediaType": media_type}}}


def json_body(model: type) -> dict[str, Any]:
    """Return the description of a request body."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": _schema(model)}}}}


def described_order(model: type, answer: Any, *statuses: int, status: int = 200) -> dict[str, Any]:
    """Return the arguments of a route that takes an order: its body, its answer, None: an empty one, its problems."""
    described = {status: {"description": "it is done"}} if answer is None else json_response(answer, status)
    answers = described | problems(*statuses, 400, 413, 415, 422, 507)
    return {"openapi_extra": json_body(model), "responses": answers}


def described_lines(line: type, answer: type) -> dict[str, Any]:
    """Return the arguments of a route that takes NDJSON and answers each line: its body, its answer, its problems."""
    body = {"required": True, "content": _lines(f"one {line.__name__} per line", line)}
    answers = _lines(f"one {answer.__name__} or Problem per line", answer, Problem)
    response = {"description": "an answer to each line", "content": answers}
    return {"openapi_extra": {"requestBody": body}, "responses": {200: response, **problems(413, 415, 507)}}


def describe_streamdata(description: str) -> dict[str, Any]:
    """Return the path item of /streamdata, which is no route of FastAPI."""
    body = json_body(Segment)
    body["requestBody"]["content"][NDJSON] = {"schema": {"type": "string", "description": "one segment per line"}}
    answers = responses(public.StreamAnswer, 400, 413, 415, 422, 507)
    lines = {"type": "string", "description": "one StreamAnswer or Problem per line"}
    answers[200]["content"][NDJSON] = {"schema": lines}
    operation = {
        "tags": ["data"],
        "summary": "Streamdata",
        "description": inspect.cleandoc(description),
        "operationId": "streamdata",
        "parameters": [_IDEMPOTENCY_KEY, _IDEMPOTENCY_KEYS],
        "responses": {str(status): response for status, response in answers.items()},
    }
    return {"post": {**operation, **body}}


def complete(document: dict[str, Any], auth: public.AuthMode) -> dict[str, Any]:
    """Add the schemas, and for each operation its scope and the problems of access control, limits and validation."""
    document["components"] = {"schemas": _schemas()}
    if auth is not public.AuthMode.OFF:
        document["components"]["securitySchemes"] = _CREDENTIALS
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            scope = None if auth is public.AuthMode.OFF else scope_needed(method.upper(), path)
            if scope:
                operation["security"] = [{name: [scope]} for name in _CREDENTIALS]
            added = {
                401: scope,
                403: scope or method != "get",
                408: "requestBody" in operation,
                422: "parameters" in operation,
                429: path not in OPEN_PATHS,
            }
            operation["responses"] |= {str(status): _problem(status) for status, wanted in added.items() if wanted}
    return document


def _problem(status: int) -> dict[str, Any]:
    return {"description": _PROBLEMS[status], "content": {PROBLEM_TYPE: {"schema": _schema(Problem)}}}


def _lines(description: str, *shapes: type) -> dict[str, Any]:
    line = {"contentMediaType": "application/json", "contentSchema": {"anyOf": [_schema(shape) for shape in shapes]}}
    return {NDJSON: {"schema": {"type": "string", "description": description, **line}}}


def _schema(shape: Any) -> dict[str, Any]:
    [schema], _ = msgspec.json.schema_components([shape], ref_template=_REFERENCE)
    return schema


def _schemas() -> dict[str, Any]:
    _, schemas = msgspec.json.schema_components(MODELS, ref_template=_REFERENCE)
    for model in MODELS:
        schema = schemas[model.__name__]
        if not model.__struct_config__.omit_defaults:
            left_out = {field.encode_name for field in msgspec.structs.fields(model) if field.default is msgspec.UNSET}
            schema["required"] = [name for name in schema["properties"] if name not in left_out]
            for each in schema["properties"].values():
                each.pop("default", None)
        if model in EXAMPLES:
            schema["examples"] = msgspec.to_builtins(EXAMPLES[model])
    return schemas
