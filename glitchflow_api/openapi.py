"""The parts of the OpenAPI document that FastAPI cannot derive from an endpoint that takes its body undecoded."""

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from glitchflow_api.models import CleanOrder, ProblemDocument, Segment, TrainOrder
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


# The models that only this module refers to: FastAPI puts those of the answers into the document by itself.
_MODELS = (Segment, TrainOrder, CleanOrder, ProblemDocument)
_REFERENCE = "#/components/schemas/{model}"


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the problems of a route: those named, and those every route may meet below."""
    return {
        status: {"description": _PROBLEMS[status], "content": {PROBLEM_TYPE: {"schema": _reference(ProblemDocument)}}}
        for status in sorted({*statuses, *_FROM_BELOW})
    }


def json_body(model: type[BaseModel]) -> dict[str, Any]:
    """Describe a body that the endpoint takes undecoded."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": _reference(model)}}}}


def with_schemas(document: dict[str, Any]) -> dict[str, Any]:
    """Add the schemas that `problems` and `json_body` refer to."""
    _, schemas = models_json_schema([(model, "validation") for model in _MODELS], ref_template=_REFERENCE)
    document["components"]["schemas"].update(schemas["$defs"])
    return document


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(model=model.__name__)}
