"""The rules as a web application: wiring, and the one place where errors become HTTP."""

from wsgiref.types import WSGIApplication

from flask import Flask, Response
from werkzeug.exceptions import HTTPException

from dslogic.assets import Assets
from dslogic.buffer_client import BufferClient
from dslogic.datapath import PATH, DataPath
from dslogic.overview import OverviewKeeper
from dslogic.page import page
from dslogic.routes import routes
from dslogic.settings import LogicSettings
from gwservice import tracing
from gwservice.correlation import note_problem
from gwservice.door_wsgi import CallerDoor
from gwservice.hop import HopSecret
from gwservice.logs import configure_logging
from gwservice.observed_wsgi import Observed
from gwservice.traced_wsgi import Traced
from gwwire.problems import (
    PROBLEM_TYPE,
    Problem,
    ProblemCode,
    ProblemError,
    code_of_status,
    encode_problem,
    make_problem,
)


def create_app(
    config_name: str = "default", *, settings: LogicSettings | None = None, buffer: BufferClient | None = None
) -> Flask:
    """Make the application.

    Args:
        config_name: `default`: settings from the environment. There is no other, yet.
        settings: used instead of the environment's, where given.
        buffer: how the buffer is called, where not as the settings say.

    """
    if config_name != "default":
        raise ValueError(f"there is no configuration named {config_name!r}")
    configure_logging("dslogic")
    settings = settings or LogicSettings.load()
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = int(settings.MAX_BODY) + 1
    app.extensions["settings"] = settings
    app.extensions["assets"] = Assets()
    app.extensions["buffer"] = buffer = buffer or BufferClient(settings)
    app.extensions["overview"] = OverviewKeeper(buffer, int(settings.MAX_SIZE))
    application: WSGIApplication = DataPath(app.wsgi_app, buffer, int(settings.MAX_BODY))
    if secret := HopSecret.load(settings.CALLER_SECRET_FILE, "dslogic", "CALLER_SECRET_FILE"):
        application = CallerDoor(application, secret)
    if tracing.wanted():
        application = Traced(application)
    app.wsgi_app = Observed(application, PATH)  # type: ignore[method-assign]  # Flask's documented way
    app.register_blueprint(routes)
    app.register_blueprint(page)
    app.register_error_handler(ProblemError, _tell_problem_error)
    app.register_error_handler(HTTPException, _tell_http_exception)
    app.register_error_handler(Exception, _tell_unexpected)
    return app


def _answer(problem: Problem, error: Exception | None = None) -> Response:
    note_problem(problem, error)
    return Response(encode_problem(problem), problem.status, content_type=PROBLEM_TYPE)


def _tell_problem_error(error: ProblemError) -> Response:
    return _answer(error.problem())


def _tell_http_exception(error: HTTPException) -> Response:
    response = _answer(make_problem(code_of_status(error.code or 500), error.description or error.name))
    response.headers.extend(header for header in error.get_headers() if header[0] == "Allow")
    return response


def _tell_unexpected(error: Exception) -> Response:
    return _answer(make_problem(ProblemCode.INTERNAL_ERROR, "the service failed; its log says more"), error)
