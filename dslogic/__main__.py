"""`python -m dslogic [OPTION]...`: run gunicorn as the original does, with its options such as `-b 127.0.0.1:5000`.

Two variables are removed from the environment first. They mean nothing to dslogic, but gunicorn fails, before it reads
its configuration, if their values are not valid.
"""

import os
import sys
from pathlib import Path


def main() -> None:
    """Replace this process with gunicorn."""
    for name in ("WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS"):
        os.environ.pop(name, None)
    configuration = str(Path(__file__).with_name("gunicorn.conf.py"))
    gunicorn = [sys.executable, "-m", "gunicorn", "-c", configuration, "dslogic.app:create_app('default')"]
    os.execv(sys.executable, [*gunicorn, *sys.argv[1:]])  # noqa: S606 (no shell is wanted)


if __name__ == "__main__":
    main()
