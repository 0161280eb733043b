"""What is told of every request at the moment its answer begins, in every service alike."""

import logging
from typing import Any

from gwservice.correlation import FROZEN, RequestInHand
from gwservice.metrics import count_request
from gwservice.repeats import Repeats
from gwservice.tracing import tell_span
from gwwire.problems import ProblemCode

log = logging.getLogger(__name__)

#: The route of a request that none of the service's routes takes: what was asked for is no label.
UNKNOWN_ROUTE = "other"
#: The methods that are told by their names; whatever else is asked with is no label either.
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_UNKNOWN_METHOD = "other"
_FAILURES = 500
#: What somebody has to look at here; the rest passes, or is looked at in another tier.
_OURS = {ProblemCode.INTERNAL_ERROR, ProblemCode.VOLUME_FULL, ProblemCode.VOLUME_FAILED}
_repeats = Repeats()
#: Asked every few seconds, by those who know what to do when it is not ready.
_PROBE = "/readyz"


def tell_end(request: RequestInHand, method: str, route: str, status: int, seconds: float) -> None:
    """Count a request that is answered; one that failed gets a line in the log, unless it is a probe or one of many.

    Args:
        request: what is known of it.
        method: of HTTP.
        route: the template of its path.
        status: of the answer.
        seconds: from its head until the answer began.

    """
    method = method if method in _METHODS else _UNKNOWN_METHOD
    outcome = request.outcome or f"{status // 100}xx"
    count_request(method, route, outcome, seconds)
    if request.span:
        tell_span(request.span, method, route, status, outcome)
    if status >= _FAILURES and outcome != FROZEN and route != _PROBE:
        told = {"method": method, "route": route, "status": status, "outcome": outcome, "seconds": round(seconds, 6)}
        _tell_failure(request, told)


def _tell_failure(request: RequestInHand, told: dict[str, Any]) -> None:
    method, route, outcome = told["method"], told["route"], told["outcome"]
    untold = _repeats.tell((method, route, outcome))
    if untold is None:
        return
    log.log(
        logging.ERROR if outcome in _OURS else logging.WARNING,
        "%s %s failed: %s%s",
        method,
        route,
        request.detail or outcome,
        f" (and {untold} more like it before)" if untold else "",
        extra={"event": "request-failed", **told, "untold": untold},
        exc_info=request.error,
    )
