"""The contract of tests/contracts, tested at the gateway that Compose publishes."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from scripts.stack import Stack
from tests.contracts.test_openapi import (  # noqa: F401 (pytest finds tests and fixtures by their names)
    promised,
    session,
    test_every_answer_is_one_the_document_describes,
    test_the_document_names_every_route_of_the_gateway,
)
from tools.clients import Connection

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def start_shared_trio(stack: Stack) -> Callable[..., SimpleNamespace]:
    """Return the running services instead of starting processes."""
    return lambda _: SimpleNamespace(url=stack.url)


def test_the_datastore_is_open_again_after_all_that(stack: Stack) -> None:
    connection = Connection(stack.url)
    assert connection.post("/cleanbuf", b'{"msg": "after the contract"}')[0] == 200
    assert connection.get("/desc") == {"resp": "OPERATIONAL"}
