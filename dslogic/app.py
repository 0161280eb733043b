"""The rules as a web application: wiring only."""

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from dslogic.asgi import LoopBridge
from dslogic.assets import Assets
from dslogic.buffer_client import BufferClient
from dslogic.overview import OverviewCache
from dslogic.page import page
from dslogic.routes import routes
from dslogic.settings import LogicSettings
from dslogic.tier_orders import TierOrders
from gwservice.correlation import current_request, note_problem
from gwservice.logs import configure_logging
from gwservice.security import CallerSecret
from gwwire.problems import PROBLEM_TYPE, code_of_status, encode_problem, make_problem


def create_app(
    config_name: str = "default", *, settings: LogicSettings | None = None, buffer: BufferClient | None = None
) -> Flask:
    """Return the Flask application, which the worker of `gunicorn.conf.py` serves behind the relay.

    Args:
        config_name: only `default` exists.
        settings: None for those of the environment.
        buffer: None for one that calls the buffer of the settings.

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
    app.extensions["overview"] = OverviewCache(buffer, int(settings.MAX_SIZE))
    app.extensions["tiers"] = TierOrders(buffer, settings.tiering, settings.OBJECT_HIGH_WATER)
    app.extensions["secret"] = CallerSecret.load(settings.CALLER_SECRET_FILE, "dslogic", "CALLER_SECRET_FILE")
    app.extensions["loop"] = LoopBridge()
    app.config["PROPAGATE_EXCEPTIONS"] = True  # `Edge` in front answers them
    app.before_request(_note_route)
    app.register_blueprint(routes)
    app.register_blueprint(page)
    app.register_error_handler(HTTPException, _answer_http_exception)
    return app


def _note_route() -> None:
    if (current := current_request()) and request.url_rule:
        current.route = request.url_rule.rule


def _answer_http_exception(error: HTTPException) -> Response:
    problem = make_problem(code_of_status(error.code or 500), error.description or error.name)
    note_problem(problem)
    response = Response(encode_problem(problem), problem.status, content_type=PROBLEM_TYPE)
    response.headers.extend(header for header in error.get_headers() if header[0] == "Allow")
    return response
