"""Make SIGTERM end process 1 of a container; Python imports this module at every start.

The kernel has no default action for signals to process 1: it would ignore SIGTERM until the program has installed a
handler, and the engine would kill it after a timeout.
"""

import os
import signal
import sys

if os.getpid() == 1:
    # The exit status of a shell: 128 and the signal's number. The exit is an exception, so files are closed.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
