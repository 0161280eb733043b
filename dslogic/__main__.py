"""`python -m dslogic [OPTION]...`: dslogic under gunicorn, with gunicorn's options such as `-b 127.0.0.1:5000`.

The same as `gunicorn -c dslogic/gunicorn.conf.py "dslogic.app:create_app('default')"`, except that two variables are
ignored. They mean nothing to dslogic, but gunicorn fails, before it reads its configuration, if their values are wrong.
"""

import os
import sys
from pathlib import Path


def main() -> None:
    """Run gunicorn until SIGTERM or SIGINT."""
    for name in ("WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS"):
        os.environ.pop(name, None)
    from gunicorn.app.wsgiapp import run  # noqa: PLC0415 (it reads the environment)

    configuration = str(Path(__file__).with_name("gunicorn.conf.py"))
    sys.argv[1:1] = ["-c", configuration, "dslogic.app:create_app('default')"]
    run(prog="python -m dslogic")


if __name__ == "__main__":
    main()
