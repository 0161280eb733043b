"""`python -m databuffer` serves; `fsck` checks a volume, `verify` an archive, `pack` the tar of an archive.

`tiers rebuild` restores the archives of a lost volume from the tiers.
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from databuffer.amounts import count
from databuffer.app import create_app, create_buffer, create_store
from databuffer.errors import VolumeError, VolumeFailed
from databuffer.settings import BufferSettings
from databuffer.storage.dropped import Dropped, read_dropped
from databuffer.storage.files import unfinished, volume_errors, write_stored
from databuffer.storage.finding import Finding
from databuffer.storage.manifest import differences, read_manifest
from databuffer.storage.recovery import recover, retry_if_catalog_damaged
from databuffer.storage.shadow import shadow
from databuffer.tiers.backends.open import open_tiers
from databuffer.tiers.packs.comparison import Comparison, checked, file_problems
from databuffer.tiers.packs.pack import PackDamaged, folder_chunks, folder_pack
from databuffer.tiers.tier import TierError
from databuffer.tiers.upkeep.file_check import check_files
from databuffer.tiers.upkeep.rebuild import rebuild
from gwservice.asgi import serve
from gwservice.logs import configure_logging
from gwservice.output import OutputFailed, write_output
from gwservice.regular_file import open_regular
from gwservice.security import CallerSecret
from gwservice.tracing import begin_tracing
from gwwire.names import printable
from gwwire.tiering import ReplicaState

_EPILOG = """
Without a command, the buffer serves until SIGTERM or SIGINT, completes accepted requests and exits with status 0.
Exit status of the commands: 0 no differences (or all repaired), 1 differences, 2 the command is not valid.
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
    packs = commands.add_parser("pack", help="the tar of an archived batch, as tiers store it").add_subparsers(
        dest="action", required=True
    )
    pack_verify = packs.add_parser("verify", help="check each byte of a pack against its manifest; needs only its file")
    pack_verify.add_argument("file", type=Path, metavar="FILE")
    pack_write = packs.add_parser("write", help="write the pack of an archive to a new file")
    pack_write.add_argument("folder", type=Path, metavar="DIR")
    pack_write.add_argument("file", type=Path, metavar="FILE")
    tiers = commands.add_parser("tiers", help="the tiers of the setting TIERS").add_subparsers(
        dest="action", required=True
    )
    tiers.add_parser(
        "rebuild", help="restore the folder of each batch that the tiers have and the environment's volume has not"
    )
    chosen = parser.parse_args(arguments)
    try:
        return _run(chosen)
    except OutputFailed as error:
        sys.stderr.write(f"databuffer: {chosen.command}: {error}\n")
        return 1
    except VolumeError as error:
        sys.stderr.write(f"databuffer: {chosen.command or 'cannot start'}: {printable(error.detail)}\n")
        return 1


def _run(chosen: argparse.Namespace) -> int:
    match chosen.command:
        case "fsck":
            return _fsck(repair=chosen.repair)
        case "verify":
            return _verify(chosen.folder)
        case "pack" if chosen.action == "verify":
            return _verify_pack(chosen.file)
        case "pack":
            return _write_pack(chosen.folder, chosen.file)
        case "tiers":
            return _rebuild()
        case _:
            return _serve()


def _serve() -> int:
    sys.setswitchinterval(_SWITCH_SECONDS)
    os.umask(_UMASK)
    settings = BufferSettings.load()
    configure_logging("databuffer")
    begin_tracing("databuffer")
    secret = CallerSecret.load(settings.CALLER_SECRET_FILE, "databuffer", "CALLER_SECRET_FILE")
    try:
        buffer = create_buffer(settings)
    except TierError as error:
        sys.stderr.write(f"databuffer: setting TIERS: {printable(str(error))}\n")
        return 2
    buffer.recover()
    app = create_app(buffer, max_body=int(settings.MAX_BODY), secret=secret)
    serve(app, settings.SERVURL, service="databuffer", setting="SERVURL")
    return 0


def _fsck(*, repair: bool) -> int:
    logging.basicConfig(format="%(message)s", level=logging.WARNING if repair else logging.ERROR)
    settings = BufferSettings.load()
    if not settings.DTVOLROOT.is_dir():
        raise VolumeFailed(f"DTVOLROOT {settings.DTVOLROOT} is not a folder")
    found: list[Finding] = []

    def report(finding: Finding) -> None:
        found.append(finding)
        done = f"repaired: {finding.what}; {finding.remedy}" if repair and finding.repair else finding.what
        _print(done)

    def look() -> None:
        for finding in recover(store, thorough=True):
            report(finding)
        for finding in check_files(store):  # in the volume itself: without --repair, nothing is tried
            if repair and finding.repair:
                finding.repair()
            report(finding)

    with ExitStack() as stack:
        store = create_store(settings)
        stack.callback(store.close)
        if not repair:  # the differences that a repair causes are only found after it
            store.volume.lock()
            with volume_errors():
                home = Path(stack.enter_context(TemporaryDirectory(prefix="fsck-")))
            store = create_store(shadow(settings, home), links=True)
            stack.callback(store.close)
        retry_if_catalog_damaged(store, look)
    unrepaired = sum(not (repair and finding.repair) for finding in found)
    _print(f"{count(len(found), 'finding')}, {unrepaired} not repaired" if found else "everything agrees")
    return 1 if unrepaired else 0


def _verify(folder: Path) -> int:
    manifest, dropped = read_manifest(folder), read_dropped(folder)
    found = list(differences(folder, manifest, dropped=dropped is not None))
    for difference in found:
        _print(difference)
    sealed = f"{manifest.n_itm} segments, {manifest.buff_size} bytes, as sealed; digest {manifest.digest}"
    if dropped:
        sealed = _places_text(dropped)
    _print(f"{folder}: {count(len(found), 'difference') if found else sealed}")
    return 1 if found else 0


def _verify_pack(path: Path) -> int:
    with volume_errors(), open_regular(path, follow=True) as file:
        found, pack, sha256 = file_problems(file)
    for difference in found:
        _print(f"{path}: {difference}")
    if pack and not found:
        _print(f"{path}: {pack.text}, {pack.size} bytes, as sealed; SHA-256 {sha256}")
    return 1 if found else 0


def _write_pack(folder: Path, path: Path) -> int:
    if path.exists():
        raise VolumeFailed(f"{path} exists already")
    pack = folder_pack(folder)
    if dropped := read_dropped(folder):
        raise VolumeFailed(f"{folder}: {_places_text(dropped)}, which have the same pack")
    temporary = unfinished(path)
    try:
        with volume_errors(), write_stored(temporary) as file:
            for chunk in checked(Comparison(pack), folder_chunks(folder, pack)):
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        with volume_errors():
            os.link(temporary, path)  # unlike a rename, it replaces nothing
    except PackDamaged as error:
        for problem in error.problems:
            _print(f"{folder}: {problem}")
        return 1
    finally:
        temporary.unlink(missing_ok=True)
    return _verify_pack(path)


def _rebuild() -> int:
    os.umask(_UMASK)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    settings = BufferSettings.load()
    if not settings.DTVOLROOT.is_dir():
        raise VolumeFailed(f"DTVOLROOT {settings.DTVOLROOT} is not a folder")
    store = create_store(settings)
    restored = unusable = 0
    try:
        tiers = open_tiers(settings.TIERS).values()
        for finding in rebuild(store, tiers):
            if finding.repair:
                finding.repair()
                restored += 1
            else:
                unusable += 1
            _print("; ".join(filter(None, (finding.what, finding.remedy))))
    except TierError as error:
        sys.stderr.write(f"databuffer: tiers: {printable(str(error))}\n")
        return 1
    finally:
        store.close()
    _print(f"{count(restored, 'folder')} restored, {count(unusable, 'problem')}")
    return 1 if unusable else 0


def _places_text(dropped: Dropped) -> str:
    places = ", ".join(
        f"{each.tier} as {each.key}" for each in dropped.replicas if each.state is not ReplicaState.EVICTED
    )
    return f"its segments were dropped from the disk; they are in {places}"


def _print(line: str) -> None:
    write_output(f"{printable(line)}\n")


if __name__ == "__main__":
    sys.exit(main())
