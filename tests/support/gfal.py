"""Debian's unmodified gfal2, a client of the WLCG Tape REST API."""

import os
import subprocess
from pathlib import Path

NEEDED = "Debian's gfal2-util-scripts, gfal2-plugin-http and python3-gfal2"


def is_there() -> bool:
    """Return whether the commands and the plugin for HTTP are there."""
    return Path("/usr/bin/gfal-bringonline").exists() and any(Path("/usr/lib").glob("*/gfal2-plugins/*plugin_http.so"))


def gfal(command: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of gfal2, as `bringonline`."""
    return _run(f"/usr/bin/gfal-{command}", *words)


def run_gfal2(program: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a program with gfal2's module for Python and its `context`; the words are in `sys.argv`."""
    return _run("-c", f"import sys, gfal2\ncontext = gfal2.creat_context()\n{program}", *words)


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    """Run Debian's Python without the settings and credentials of the user."""
    environment = {"PATH": os.defpath, "HOME": "/nonexistent"}
    run = ["/usr/bin/python3", *words]
    return subprocess.run(run, env=environment, capture_output=True, text=True, timeout=60, check=False)
