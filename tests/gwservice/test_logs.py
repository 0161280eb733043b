import contextvars
import json
import logging
import sys

import pytest

from gwservice.correlation import RequestContext, set_current_request
from gwservice.logs import JsonFormatter, TextFormatter, log_config

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def record(message: str, *arguments: object, **seen: object) -> logging.LogRecord:
    made = logging.LogRecord("databuffer.buffer", logging.INFO, __file__, 1, message, arguments, None)
    made.created, made.msecs = 1_700_000_000.123, 123.0
    vars(made).update(seen)
    return made


def of_a_request(formatter: logging.Formatter, line: logging.LogRecord) -> str:
    def write() -> str:
        set_current_request(RequestContext({b"x-request-id": b"abc", b"traceparent": TRACEPARENT.encode()}))
        return formatter.format(line)

    return contextvars.copy_context().run(write)


def without_a_request(formatter: logging.Formatter, line: logging.LogRecord) -> str:
    return contextvars.Context().run(formatter.format, line)


def test_a_line_of_json_has_the_common_fields_and_those_of_the_event() -> None:
    line = record("frozen by %s", "alice", event="freeze", n_itm=3)
    assert json.loads(of_a_request(JsonFormatter("databuffer"), line)) == {
        "time": "2023-11-14T22:13:20.123Z",
        "level": "INFO",
        "service": "databuffer",
        "logger": "databuffer.buffer",
        "message": "frozen by alice",
        "request_id": "abc",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "event": "freeze",
        "n_itm": 3,
    }


def test_a_line_outside_of_requests_names_none() -> None:
    assert (
        json.loads(without_a_request(JsonFormatter("databuffer"), record("a")))
        .keys()
        .isdisjoint({"request_id", "trace_id"})
    )


def test_the_fields_of_an_event_do_not_replace_the_common_fields() -> None:
    line = record("a", service="other", level="other", request_id="other")
    seen = json.loads(of_a_request(JsonFormatter("databuffer"), line))
    assert (seen["service"], seen["level"], seen["request_id"]) == ("databuffer", "INFO", "abc")


def test_an_exception_and_a_line_break_stay_within_the_line() -> None:
    line = record("two\nlines", folder=object)
    try:
        int("on\ntwo lines")
    except ValueError:
        line.exc_info = sys.exc_info()
    written = without_a_request(JsonFormatter("databuffer"), line)
    assert "\n" not in written
    seen = json.loads(written)
    assert seen["message"] == "two\nlines"
    assert seen["exception"].endswith("'on\\ntwo lines'")
    assert "Traceback" in seen["exception"]


def test_long_names_of_clients_are_shortened_in_the_log() -> None:
    line = record("cleaned (%s)", "x" * 10**6, user="y" * 10**6)
    for formatter in (JsonFormatter("a"), TextFormatter("a")):
        assert len(without_a_request(formatter, line)) < 3000
    assert json.loads(without_a_request(JsonFormatter("a"), line))["user"].endswith("yyy… (1000000 characters)")


def test_no_name_begins_a_line_of_text_or_steers_a_terminal() -> None:
    seen = without_a_request(TextFormatter("databuffer"), record("frozen by %s", "eve\nERROR \x1b[2J\u2028\x85\u202eé"))
    assert seen.endswith("frozen by eve\\nERROR \\x1b[2J\\u2028\\x85\\u202eé")


def test_a_line_of_text_is_for_people() -> None:
    assert without_a_request(TextFormatter("run"), record("hello")) == "2023-11-14T22:13:20.123Z INFO run: hello"
    assert of_a_request(TextFormatter("run"), record("hello")) == "2023-11-14T22:13:20.123Z INFO run: hello [abc]"


@pytest.mark.parametrize(
    ("wanted", "terminal", "kind"),
    [
        (None, 1, TextFormatter),
        (None, 0, JsonFormatter),
        ("json", 1, JsonFormatter),
        ("text", 0, TextFormatter),
    ],
)
def test_a_terminal_gets_text_and_everything_else_json_unless_said_otherwise(
    monkeypatch: pytest.MonkeyPatch, wanted: str | None, terminal: int, kind: type[logging.Formatter]
) -> None:
    monkeypatch.delenv("LOG_FORMAT", raising=False)
    if wanted:
        monkeypatch.setenv("LOG_FORMAT", wanted)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: bool(terminal), raising=False)
    make = log_config("databuffer")["formatters"]["line"]
    assert isinstance(make.pop("()")(**make), kind)
