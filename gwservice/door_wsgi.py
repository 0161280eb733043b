"""The door of the WSGI services that have one caller only."""

from collections.abc import Iterable
from http.client import responses
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from gwservice.correlation import note_problem
from gwservice.hop import HopSecret, NotOurCaller
from gwwire.problems import PROBLEM_TYPE, encode_problem


class CallerDoor:
    """A WSGI middleware that lets only the tier's own caller in."""

    def __init__(self, behind: WSGIApplication, secret: HopSecret) -> None:
        self._behind = behind
        self._secret = secret

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Let a request through, or answer with the problem."""
        try:
            self._secret.check(environ["PATH_INFO"], environ.get("HTTP_AUTHORIZATION", "").encode("latin-1"))
        except NotOurCaller as error:
            problem = error.problem()
            note_problem(problem)
            headers = [("Content-Type", PROBLEM_TYPE), ("WWW-Authenticate", "Bearer")]
            start_response(f"{problem.status} {responses[problem.status]}", headers)
            return [encode_problem(problem)]
        return self._behind(environ, start_response)
