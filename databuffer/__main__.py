"""`python -m databuffer` serves; `fsck` checks a volume, `verify` checks an archive."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from databuffer.app import create_app, create_buffer, create_store
from databuffer.errors import VolumeError, VolumeFailed
from databuffer.settings import BufferSettings
from databuffer.storage.finding import Finding
from databuffer.storage.manifest import differences, read_manifest
from databuffer.storage.recovery import recover, retry_if_catalog_damaged
from databuffer.storage.shadow import shadow
from gwservice.asgi import serve
from gwservice.logs import configure_logging
from gwservice.security import CallerSecret
from gwservice.tracing import begin_tracing

_EPILOG = """
Without a command, the buffer serves until SIGTERM or SIGINT, completes accepted requests and exits with status 0.
Exit status of fsck and verify: 0 no differences (or all repaired), 1 differences, 2 the command is not valid.
"""

#: A thread that returns from a system call waits this long for the GIL; the default of 5 ms would dominate latency.
_SWITCH_SECONDS = 0.0005
#: Files are 0644 and folders 0755, so that preprocessing can read what the buffer writes.
_UMASK = 0o022


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status."""
    parser = argparse.ArgumentParser("python -m databuffer", description=__doc__, epilog=_EPILOG)
    commands = parser.add_subparsers(dest="command")
    check = commands.add_parser(
        "fsck", help="read every byte of the environment's volume; list the differences that --repair would repair"
    )
    check.add_argument("--repair", action="store_true", help="repair what can be repaired")
    verify = commands.add_parser("verify", help="check a sealed batch against its manifest; needs only its folder")
    verify.add_argument("folder", type=Path, metavar="DIR")
    chosen = parser.parse_args(arguments)
    try:
        match chosen.command:
            case "fsck":
                return _fsck(repair=chosen.repair)
            case "verify":
                return _verify(chosen.folder)
            case _:
                return _serve()
    except VolumeError as error:
        sys.stderr.write(f"databuffer: {chosen.command or 'cannot start'}: {error.detail}\n")
        return 1


def _serve() -> int:
    sys.setswitchinterval(_SWITCH_SECONDS)
    os.umask(_UMASK)
    settings = BufferSettings.load()
    configure_logging("databuffer")
    begin_tracing("databuffer")
    secret = CallerSecret.load(settings.CALLER_SECRET_FILE, "databuffer", "CALLER_SECRET_FILE")
    buffer = create_buffer(settings)
    buffer.state.recover()
    app = create_app(buffer, max_body=int(settings.MAX_BODY), secret=secret)
    serve(app, settings.SERVURL, service="databuffer")
    return 0


def _fsck(*, repair: bool) -> int:
    logging.basicConfig(format="%(message)s", level=logging.WARNING if repair else logging.ERROR)
    settings = BufferSettings.load()
    if not settings.DTVOLROOT.is_dir():
        raise VolumeFailed(f"DTVOLROOT {settings.DTVOLROOT} is not a folder")
    found: list[Finding] = []

    def look() -> None:
        for finding in recover(store, thorough=True):
            found.append(finding)
            done = f"repaired: {finding.what}; {finding.remedy}" if repair and finding.repair else finding.what
            print(done, flush=True)  # noqa: T201 (what the command is for)

    with ExitStack() as stack:
        store = create_store(settings)
        stack.callback(store.close)
        if not repair:  # the differences that a repair causes are only found after it
            store.volume.lock()
            home = Path(stack.enter_context(TemporaryDirectory(prefix="fsck-")))
            store = create_store(shadow(settings, home))
            stack.callback(store.close)
        retry_if_catalog_damaged(store, look)
    unrepaired = sum(not (repair and finding.repair) for finding in found)
    print(f"{_count(len(found), 'finding')}, {unrepaired} not repaired" if found else "everything agrees")  # noqa: T201 (see above)
    return 1 if unrepaired else 0


def _verify(folder: Path) -> int:
    manifest = read_manifest(folder)
    found = list(differences(folder, manifest))
    for difference in found:
        print(difference)  # noqa: T201 (what the command is for)
    sealed = f"{manifest.n_itm} segments, {manifest.buff_size} bytes, as sealed; digest {manifest.digest}"
    print(f"{folder}: {_count(len(found), 'difference') if found else sealed}")  # noqa: T201 (see above)
    return 1 if found else 0


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


if __name__ == "__main__":
    sys.exit(main())
