"""TIERS.json, in the folder of an archived batch whose segments the disk does not keep: where they are instead.

It is on the disk before the first segment is deleted, so that even without a catalog a dropped batch is known from a
damaged one. MANIFEST.json and the log stay in the folder, and META.json has what the `meta` of its segments contains.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from databuffer.errors import VolumeFailed
from databuffer.storage.files import read_stored, replace_file, volume_errors
from databuffer.storage.scalars import Scalar, Scalars
from gwservice.atomic import sync as sync_folder
from gwwire.decoding import parse_json
from gwwire.problems import ProblemError
from gwwire.tiering import Replica, Tiering

#: The names of the files.
TIERS, META = "TIERS.json", "META.json"
#: The remedy for a MANIFEST.json beside TIERS.json that is missing or malformed: the packs in tiers have it, too.
REMEDY = "end the buffer, and run `python -m databuffer tiers rebuild`: the pack in a tier has the manifest, too"


class Dropped(msgspec.Struct, frozen=True):
    """The content of TIERS.json: the replicas of the batch's pack, and the batch's policy.

    They are VERIFIED, EVICTED from the cache of a tape, or WRITTEN if a rebuild found them in the tiers.
    """

    batch: str
    replicas: list[Replica]
    tiering: Tiering | None = None


def read_dropped(folder: Path) -> Dropped | None:
    """Return what TIERS.json says, or None if the batch was not dropped; raise VolumeFailed if it is malformed."""
    with volume_errors():
        try:
            content = read_stored(folder / TIERS)
        except FileNotFoundError:
            return None
    try:
        return parse_json(content, Dropped)
    except ValueError as error:
        raise VolumeFailed(f"{folder / TIERS} cannot be understood: {error}") from error


def is_dropped(folder: Path) -> bool:
    """Return whether TIERS.json is in a folder, whatever it says; not if the folder cannot be read."""
    return os.path.exists(folder / TIERS)  # noqa: PTH110 (it raises nothing)


def encode_dropped(dropped: Dropped) -> bytes:
    """Return the bytes of TIERS.json."""
    return msgspec.json.format(msgspec.json.encode(dropped), indent=1) + b"\n"


def write_dropped(folder: Path, dropped: Dropped) -> None:
    """Store TIERS.json, durably."""
    with volume_errors():
        replace_file(folder / TIERS, encode_dropped(dropped), durable=True)


def remove_dropped(folder: Path) -> None:
    """Delete TIERS.json and META.json, if they exist: the batch's segments are in the folder again."""
    with volume_errors():
        for name in (TIERS, META):
            (folder / name).unlink(missing_ok=True)
        sync_folder(folder)


def write_meta(folder: Path, conditions: Mapping[str, Scalars]) -> None:
    """Store META.json, durably: what the `meta` of segments contains that can be searched, by their names."""
    content = {
        name: {key: text if number is None else number for key, (number, text) in found}
        for name, found in conditions.items()
    }
    with volume_errors():
        replace_file(folder / META, msgspec.json.encode(content) + b"\n", durable=True)


def read_meta(folder: Path) -> dict[str, Scalars]:
    """Return what META.json says; nothing if it does not exist or cannot be read: only searches need it."""
    with suppress(ProblemError, ValueError), volume_errors():
        content = parse_json(read_stored(folder / META), dict[str, dict[str, float | str]])
        return {name: tuple((key, _scalar(value)) for key, value in found.items()) for name, found in content.items()}
    return {}


def _scalar(value: float | str) -> Scalar:
    return (None, value) if isinstance(value, str) else (value, None)
