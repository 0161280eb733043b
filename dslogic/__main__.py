"""`python -m dslogic [OPTION]...`: dslogic under gunicorn, with gunicorn's options such as `-b 127.0.0.1:5000`.

The same as `gunicorn -c dslogic/gunicorn.conf.py "dslogic.app:create_app('default')"`, except that WEB_CONCURRENCY is
ignored: gunicorn fails if it is no number, before it reads its configuration.
"""

import os
import sys
from pathlib import Path


def main() -> None:
    """Run gunicorn until SIGTERM or SIGINT."""
    os.environ.pop("WEB_CONCURRENCY", None)
    from gunicorn.app.wsgiapp import run  # noqa: PLC0415 (it reads the environment)

    configuration = str(Path(__file__).with_name("gunicorn.conf.py"))
    sys.argv[1:1] = ["-c", configuration, "dslogic.app:create_app('default')"]
    run(prog="python -m dslogic")


if __name__ == "__main__":
    main()
