"""`python -m preproc`."""

import signal
import sys

from preproc.cli import main

if __name__ == "__main__":
    # Asked to stop, it cleans up as it does after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
