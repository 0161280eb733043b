"""`glitchflow-keys`, or `python -m glitchflow_api keys`: makes, lists and revokes API keys in a key file."""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from glitchflow_api.key_file import NAME, KeyRecord, Keys, change_keys, make_key, read_keys
from glitchflow_api.settings import GatewaySettings
from gwservice.output import OutputFailed, write_output
from gwwire.public import Scope

_EPILOG = """
A new key is printed to standard output, once: only its hash is stored. A gateway with AUTH=keys reads the file again
when it changes. Exit status: 0 done, 1 failed, 2 the command is not valid.
"""
_UNITS = {"h": 3600, "d": 86400}


def main(arguments: Sequence[str] | None = None, program: str = "glitchflow-keys") -> int:
    """Carry out one command."""
    chosen = _parser(program).parse_args(arguments)
    path = chosen.file or GatewaySettings.load().KEYS_FILE
    try:
        match chosen.command:
            case "create":
                _create(path, chosen)
            case "list":
                _list(path, as_json=chosen.json)
            case "revoke":
                _revoke(path, chosen.key)
    except OutputFailed as error:
        sys.stderr.write(f"{program}: {error}\n")
        return 1
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{program}: {path}: {getattr(error, 'strerror', error)}\n")
        return 1
    return 0


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(program, description=__doc__, epilog=_EPILOG)
    parser.add_argument("--file", type=Path, metavar="PATH", help="the key file (default: the setting KEYS_FILE)")
    commands = parser.add_subparsers(dest="command", required=True)
    create = commands.add_parser("create", help="create a key and print it; creates the file if it does not exist")
    create.add_argument("name", type=_name, help="name of the user; orders such as /train must have it as `user`")
    create.add_argument("--scopes", type=_scopes, required=True, help=f"separated by commas: {', '.join(Scope)}")
    create.add_argument("--group", type=_name, help="group whose quota applies")
    create.add_argument("--expires", type=_time, metavar="TIME", help="12h, 90d, or 2027-01-31 (UTC); default: never")
    listing = commands.add_parser("list", help="list the keys")
    listing.add_argument("--json", action="store_true", help="for programs")
    revoke = commands.add_parser("revoke", help="revoke a key")
    revoke.add_argument("key", metavar="ID", help="id of the key, or a name to revoke all keys of that user")
    return parser


def _name(text: str) -> str:
    if not re.search(NAME, text):
        raise argparse.ArgumentTypeError(
            f"{text!a}: expected at most 64 of A-Z, a-z, 0-9 and @._+-, a letter or digit at the start"
        )
    return text


def _scopes(text: str) -> list[Scope]:
    try:
        return sorted({Scope(part.strip()) for part in text.split(",")}, key=list(Scope).index)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}; the scopes are {', '.join(Scope)}") from None


def _time(text: str) -> datetime:
    now = datetime.now(UTC).replace(microsecond=0)
    if match := re.fullmatch(r"0*([1-9]\d{0,5})([hd])", text):
        return now + timedelta(seconds=int(match[1]) * _UNITS[match[2]])
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        wanted = "neither a duration such as 12h or 90d nor a date such as 2027-01-31"
        raise argparse.ArgumentTypeError(f"{text!r} is {wanted}") from None
    time = time if time.tzinfo else time.replace(tzinfo=UTC)
    if time <= now:
        raise argparse.ArgumentTypeError(f"{text} is in the past")
    return time


def _create(path: Path, chosen: argparse.Namespace) -> None:
    key, record = make_key(chosen.name, chosen.scopes, group=chosen.group, expires=chosen.expires)
    others: list[KeyRecord] = []

    def add(keys: Keys) -> None:
        others.extend(each for each in keys.values() if each.name == record.name and each.invalid_since() is None)
        keys[record.id] = record

    change_keys(path, add)
    if others:
        sys.stderr.write(f"{record.name} now has {len(others) + 1} keys; `revoke {record.name}` revokes all of them\n")
    sys.stderr.write(f"{path}: key {record.id} of {record.name} ({', '.join(record.scopes)}); it is not shown again:\n")
    try:
        write_output(f"{key}\n")
    except OutputFailed:
        change_keys(path, lambda keys: keys.__delitem__(record.id))
        raise


def _list(path: Path, *, as_json: bool) -> None:
    keys = read_keys(path).values()
    if as_json:
        write_output(json.dumps([_public_fields(record) for record in keys]) + "\n")
        return
    rows = [("ID", "NAME", "GROUP", "SCOPES", "CREATED", "STATE"), *(_row(record) for record in keys)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    write_output("".join(f"{line.rstrip()}\n" for line in lines))


def _public_fields(record: KeyRecord) -> dict[str, object]:
    public = msgspec.to_builtins(record)
    del public["hash"]
    ended = record.invalid_since()
    return {"group": None, "expires": None, "revoked": None, **public, "valid": ended is None}


def _row(record: KeyRecord) -> tuple[str, ...]:
    match record.invalid_since(), record.expires:
        case (why, since), _:
            state = f"{why} {since:%Y-%m-%d %H:%M}"
        case None, None:
            state = "valid"
        case None, until:
            state = f"valid until {until:%Y-%m-%d %H:%M}"
    return record.id, record.name, record.group or "-", ",".join(record.scopes), f"{record.created:%Y-%m-%d}", state


def _revoke(path: Path, wanted: str) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    revoked: list[KeyRecord] = []

    def revoke(keys: Keys) -> None:
        chosen = [record for record in keys.values() if wanted in {record.id, record.name} and not record.revoked]
        if not chosen:
            raise ValueError(f"no valid key has the id or name {wanted}")
        for record in chosen:
            keys[record.id] = msgspec.structs.replace(record, revoked=now)
        revoked.extend(chosen)

    change_keys(path, revoke)
    for record in revoked:
        sys.stderr.write(f"{path}: key {record.id} of {record.name} is revoked\n")


if __name__ == "__main__":
    sys.exit(main())
