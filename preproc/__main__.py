"""Entry point of `python -m preproc`."""

import os
import signal
import sys

from gwclient.importing import interruptible

if __name__ == "__main__":
    # Matplotlib fails when it is imported if this names a backend that is not installed, as in notebooks.
    os.environ["MPLBACKEND"] = "agg"
    with interruptible("preproc"):
        from preproc.cli import main
    # SIGTERM cleans up as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
