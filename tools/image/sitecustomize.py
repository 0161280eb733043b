"""Python imports this at every start, before anything else: SIGTERM ends process 1 of a container.

The kernel gives process 1 no default action for a signal: it would ignore SIGTERM until a service has put its own
handler there, or for ever where a command has none. The engine would wait in vain, and then kill.
"""

import os
import signal
import sys

if os.getpid() == 1:
    # As a shell would tell it: 128 and the signal's number. The exit is an exception, so files are put away.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
