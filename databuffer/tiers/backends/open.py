"""Open the tiers of the setting TIERS."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from databuffer.tier_urls import TierUrl
from databuffer.tiers.tier import Tier


def open_tiers(urls: Sequence[TierUrl]) -> dict[str, Tier]:
    """Return the tiers by name, in the order of the setting; none is contacted.

    Raise TierError if a tier needs something that the environment does not say, such as the keys of an object store.
    """
    return {url.name: _open(url) for url in urls}


def _open(url: TierUrl) -> Tier:
    match url.scheme:
        case "file":
            from databuffer.tiers.backends.folder import FolderTier  # noqa: PLC0415 (without tiers, nothing is imported)

            capacity = url.options.get("capacity")
            return FolderTier(url.name, Path(url.path), None if capacity is None else int(capacity))
        case "folder":
            from databuffer.tiers.backends.tape_library.library import TapeTier  # noqa: PLC0415 (see above)
            from databuffer.tiers.backends.tape_library.robot import TapeManners  # noqa: PLC0415 (see above)

            return TapeTier(url.name, Path(url.path), msgspec.convert(dict(url.options), TapeManners))
        case "root":
            from databuffer.tiers.backends.xrootd import XRootDTier  # noqa: PLC0415 (see above)

            return XRootDTier(url)
        case "tape+https" | "tape+http":
            from databuffer.tiers.backends.tape_endpoint.endpoint import open_tape_endpoint  # noqa: PLC0415 (see above)

            return open_tape_endpoint(url)
        case "s3" | "gs" | "az":
            from databuffer.tiers.backends.object_store import open_object_store  # noqa: PLC0415 (see above)

            return open_object_store(url)
        case _:
            raise ValueError(f"no tier opens {url.scheme}://")
