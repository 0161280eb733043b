"""Limits of a GraphQL document: they are checked before anything is looked up, and bound its time and memory.

The largest answer costs as much time of the event loop as 1000 things with all of their fields, some 100 ms.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLSyntaxError,
    IntValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    VariableNode,
    parse,
)

from gwwire.problems import ProblemCode, ProblemError

#: Characters and tokens of a document.
_MOST_CHARACTERS, _MOST_TOKENS = 10_000, 1000
_MOST_DEPTH = 6
#: Fields of an operation with its fragments, and those of them that look something up.
_MOST_FIELDS, _MOST_LOOKUPS = 500, 10
#: Things in the lists of one answer.
MOST_THINGS = 1000
#: Values of one answer: a thing has up to 24 fields, and can have each of them under several names.
_MOST_VALUES = 30 * MOST_THINGS
_DEFAULT_FIRST = 100
#: The argument that limits the length of a list.
_FIRST = "first"
#: So many digits are beyond the limit; Python refuses to convert thousands of them.
_DIGITS = 20


class QueryTooLarge(ProblemError, code=ProblemCode.QUERY_TOO_LARGE):
    """A GraphQL document asks for more than one request may."""


def parsed(text: str) -> DocumentNode:
    """Parse a document; raise QueryTooLarge, or GraphQLSyntaxError."""
    if len(text) > _MOST_CHARACTERS:
        raise QueryTooLarge(f"the query has {len(text)} characters; the limit is {_MOST_CHARACTERS}", field="query")
    try:
        return parse(text, max_tokens=_MOST_TOKENS)
    except GraphQLSyntaxError as error:
        if "tokens" in error.message:
            raise QueryTooLarge(f"the query has more than {_MOST_TOKENS} tokens", field="query") from None
        raise
    except RecursionError:
        raise QueryTooLarge("the query is nested too deeply", field="query") from None


def check(document: DocumentNode, variables: Mapping[str, Any]) -> None:
    """Raise QueryTooLarge if an operation of a document is too deep, or asks for too much.

    Fields of introspection are counted, but may be deeper.
    """
    fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
    for node in document.definitions:
        if isinstance(node, OperationDefinitionNode):
            _Operation(fragments, variables).check(node)


@dataclass
class _Operation:
    fragments: Mapping[str, FragmentDefinitionNode]
    variables: Mapping[str, Any]
    _fields: int = field(default=0, init=False)

    def check(self, operation: OperationDefinitionNode) -> None:
        roots = list(self._expanded(operation.selection_set))
        if len(roots) > _MOST_LOOKUPS:
            raise QueryTooLarge(f"the query asks for {len(roots)} fields of Query; the limit is {_MOST_LOOKUPS}")
        things = sum(self._first(root) for root in roots)
        if things > MOST_THINGS:
            raise QueryTooLarge(f"the query asks for up to {things} things; the limit is {MOST_THINGS}")
        values = sum(self._first(root) * self._visit(root, 1) for root in roots)
        if values > _MOST_VALUES:
            raise QueryTooLarge(f"the query asks for up to {values} values of fields; the limit is {_MOST_VALUES}")

    def _visit(self, node: FieldNode, depth: int) -> int:
        """Return the number of fields of a field, with itself; raise QueryTooLarge if they are too deep."""
        if depth > _MOST_DEPTH:
            raise QueryTooLarge(f"the query is nested more than {_MOST_DEPTH} levels deep")
        if not node.selection_set or node.name.value.startswith("__"):
            return 1
        return 1 + sum(self._visit(each, depth + 1) for each in self._expanded(node.selection_set))

    def _expanded(self, selections: SelectionSetNode, spread: tuple[str, ...] = ()) -> Iterator[FieldNode]:
        """Yield the fields of a selection and of the fragments in it; `spread` are those around it."""
        for node in selections.selections:
            self._fields += 1
            if self._fields > _MOST_FIELDS:
                raise QueryTooLarge(f"the query has more than {_MOST_FIELDS} fields, those of its fragments included")
            if isinstance(node, FieldNode):
                yield node
            elif isinstance(node, FragmentSpreadNode):
                name = node.name.value
                if name in spread:
                    raise QueryTooLarge(f"the fragment {name} contains itself")
                if name in self.fragments:
                    yield from self._expanded(self.fragments[name].selection_set, (*spread, name))
            else:
                yield from self._expanded(node.selection_set, spread)  # type: ignore[attr-defined]  # inline fragment

    def _first(self, node: FieldNode) -> int:
        """Return the number of things that a field may return; a variable without a value may have any.

        A number that the field refuses counts too, but not below 0: it must not make up for others.
        """
        given = next((each.value for each in node.arguments or () if each.name.value == _FIRST), None)
        match given:
            case IntValueNode():
                return max(int(given.value[:_DIGITS]), 0)
            case VariableNode():
                number = self.variables.get(given.name.value)
                return max(number, 0) if isinstance(number, int) else MOST_THINGS
            case _:
                return _DEFAULT_FIRST
