"""The parts of the OpenAPI document that FastAPI cannot derive from an endpoint that takes its body undecoded."""

from typing import Any

from pydantic import BaseModel

from glitchflow_api.models import ProblemDocument
from gwwire.problems import PROBLEM_TYPE

_PROBLEMS = {
    400: "the body is not JSON",
    413: "the body is larger than MAX_BODY",
    415: "the body is not application/json",
    422: "a field is missing or wrong; `field` names it",
    500: "a service failed; its log says more",
    502: "a lower tier cannot be reached, or answered something unexpected",
    503: "the queue is full (see Retry-After), or the volume failed",
    504: "a lower tier did not answer in time",
    507: "the volume is full",
}
_FROM_BELOW = (500, 502, 503, 504)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the problems of a route: those named, and those every route may meet below."""
    schema = {"$ref": f"#/components/schemas/{ProblemDocument.__name__}"}
    return {
        status: {"description": _PROBLEMS[status], "content": {PROBLEM_TYPE: {"schema": schema}}}
        for status in sorted({*statuses, *_FROM_BELOW})
    }


def json_body(model: type[BaseModel]) -> dict[str, Any]:
    """Describe a body that the endpoint takes undecoded."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": model.model_json_schema()}}}}


def with_problem_schema(document: dict[str, Any]) -> dict[str, Any]:
    """Add the schema that `problems` refers to."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas[ProblemDocument.__name__] = ProblemDocument.model_json_schema()
    return document
