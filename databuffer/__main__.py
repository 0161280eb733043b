"""`python -m databuffer`: settings → app → uvicorn."""

import sys

from databuffer.app import create_app, create_buffer
from databuffer.settings import BufferSettings
from gwservice.asgi import serve
from gwservice.logs import configure_logging
from gwwire.problems import ProblemError


def main() -> None:
    """Run the buffer until SIGTERM or SIGINT; exits with status 0 after finishing what was accepted.

    A volume that cannot be used is told in one line, with status 1.
    """
    settings = BufferSettings.load()
    configure_logging("databuffer")
    buffer = create_buffer(settings)
    try:
        buffer.recover()
    except ProblemError as error:
        sys.exit(f"databuffer: cannot start: {error.detail}")
    serve(create_app(buffer, max_body=int(settings.MAX_BODY)), settings.SERVURL, service="databuffer")


if __name__ == "__main__":
    main()
