"""Execution of GraphQL requests: parse, check the limits, validate, resolve, and report errors.

An error in a document or of a field is in `errors` of an answer with status 200, as the GraphQL specification wants it;
a document beyond the limits raises a ProblemError.
"""

import logging
from importlib.resources import files
from typing import Any

import msgspec
from graphql import (
    ExecutionResult,
    GraphQLError,
    GraphQLSchema,
    GraphQLSyntaxError,
    IntValueNode,
    ValueNode,
    build_schema,
    execute,
    validate,
)
from graphql.pyutils import is_awaitable

from glitchflow_api.graphql.limits import check, parsed
from glitchflow_api.graphql.resolvers import Root, add_resolvers
from glitchflow_api.logic_client import LogicClient
from gwservice.upstream import UpstreamProblem
from gwwire.problems import Problem, ProblemCode, ProblemError, make_problem
from gwwire.public import GraphqlRequest

log = logging.getLogger(__name__)

_MOST_ERRORS = 20
_LONG = range(-(2**63), 2**63)


async def answer(request: GraphqlRequest, logic: LogicClient, group: str | None) -> dict[str, Any]:
    """Return the answer to a request, as JSON values; raise QueryTooLarge for one beyond the limits."""
    variables = request.variables or {}
    try:
        document = parsed(request.query)
    except GraphQLSyntaxError as error:
        return {"errors": [error.formatted]}
    check(document, variables)
    if errors := validate(_SCHEMA, document, max_errors=_MOST_ERRORS):
        return {"errors": [error.formatted for error in errors]}
    outcome: Any = execute(
        _SCHEMA, document, Root(logic, group), variable_values=variables, operation_name=request.operationName
    )
    result: ExecutionResult = await outcome if is_awaitable(outcome) else outcome
    if not result.errors:
        return {"data": result.data}
    return {"data": result.data, "errors": [_described(error) for error in result.errors]}


def _described(error: GraphQLError) -> dict[str, Any]:
    """Return an error of the answer; its `extensions` are the problem document of what went wrong, if there is one."""
    described: dict[str, Any] = {**error.formatted}
    problem = _problem(error.original_error)
    if problem is not None:
        described |= {"message": problem.detail, "extensions": msgspec.to_builtins(problem)}
    return described


def _problem(error: Exception | None) -> Problem | None:
    match error:
        case None | GraphQLError():
            return None
        case UpstreamProblem():
            return msgspec.json.decode(error.answer.body(), type=Problem)
        case ProblemError():
            return error.problem()
        case _:
            log.error("a field of a GraphQL request failed", exc_info=error)
            return make_problem(ProblemCode.INTERNAL_ERROR, "the request failed; the log has the details")


def _long(given: Any) -> int:
    """Return a whole number of 64 bits, which `Int` has not; raise GraphQLError for anything else."""
    if isinstance(given, bool) or not isinstance(given, int) or given not in _LONG:
        raise GraphQLError(f"Long cannot represent {given!r}: expected a whole number of 64 bits")
    return given


def _long_literal(node: ValueNode, _: dict[str, Any] | None = None) -> int:
    if not isinstance(node, IntValueNode):
        raise GraphQLError("Long: expected a whole number", node)
    return _long(int(node.value))


def _schema() -> GraphQLSchema:
    schema = build_schema(files(__package__).joinpath("schema.graphql").read_text())
    add_resolvers(schema)
    scalar: Any = schema.type_map["Long"]
    scalar.serialize, scalar.parse_value, scalar.parse_literal = _long, _long, _long_literal
    return schema


_SCHEMA = _schema()
