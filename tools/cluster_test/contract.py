"""The gateway's contract with clients of the original system."""

import json
from collections.abc import Callable
from typing import Any

from tools.cluster_test.errors import StepFailed
from tools.cluster_test.gateway import Gateway

PROBLEM = "application/problem+json"
SEGMENT = {"h": [1e-21, -2.5e-21, 3e-22], "t": [1126259462.0, 0.000244140625]}


def check_contract(gateway: Gateway) -> str:
    """Call every route of an open datastore; it has one more segment afterwards.

    Raises:
        StepFailed: an answer breaks the contract.

    """
    before = gateway.get("/stats")
    segment = json.dumps(SEGMENT).encode()
    questions: list[tuple[str, bytes | None, Callable[[Any], bool]]] = [
        ("/stats", None, lambda answer: answer.keys() >= {"n_itm", "buff_size"}),
        ("/desc", None, lambda answer: answer == {"resp": "OPERATIONAL"}),
        ("/train", b'{"user": "test", "token": "t"}', lambda answer: answer["resp"] == "WAITING"),
        (
            "/streamdata",
            segment,
            lambda answer: answer["resp"] == "CREATED" and answer["body"].startswith("Written gwb"),
        ),
        ("/dumpbuf", None, lambda answer: len(answer["nmlist"]) == before["n_itm"] + 1),
        ("/stats", None, lambda answer: answer["n_itm"] == before["n_itm"] + 1),
        ("/batches", None, lambda answer: answer["batches"][-1]["state"] == "OPEN"),
        ("/healthz", None, lambda answer: answer["status"] == "ok"),
        ("/readyz", None, lambda answer: answer["status"] == "ready"),
    ]
    for route, body, holds in questions:
        answer = gateway.ask(route, body)
        if answer.status != 200 or not holds(answer.json()):  # noqa: PLR2004 (the contract's status)
            raise StepFailed(f"{route}: status {answer.status}: {answer.body[:200]!r}")
    problems = [(b"no json", 400), (b'{"h": [NaN], "t": [0, 1]}', 422), (b'{"h": [], "t": [0, 1]}', 422)]
    for bad, status in problems:
        answer = gateway.ask("/streamdata", bad)
        if answer.media_type != PROBLEM or answer.status not in {status, 400}:
            raise StepFailed(f"/streamdata {bad!r}: {answer.status} {answer.media_type}, not a problem with {status}")
    page = gateway.ask("/dspage")
    if page.status != 200 or page.media_type != "text/html":  # noqa: PLR2004 (the contract's status)
        raise StepFailed(f"/dspage: {page.status} {page.media_type}")
    return f"{len(questions) + len(problems) + 1} answers as they should be"
