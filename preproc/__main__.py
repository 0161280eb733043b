"""Entry point of `python -m preproc`."""

import signal
import sys

from gwclient.importing import interruptible
from preproc.matplotlib_defaults import import_matplotlib

if __name__ == "__main__":
    with interruptible("preproc"):
        import_matplotlib()
        from preproc.cli import main
    # SIGTERM cleans up as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
