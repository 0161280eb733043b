"""Entry point of `python -m preproc`."""

import signal
import sys

from preproc.cli import main

if __name__ == "__main__":
    # SIGTERM cleans up as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
