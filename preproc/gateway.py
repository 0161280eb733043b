"""Fetch a sealed batch from the gateway; each segment is checked against the manifest."""

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path

from gwclient.client import GlitchflowClient, Retry
from gwclient.errors import GatewayError
from gwwire.manifest import MANIFEST, encode_manifest
from gwwire.public import Manifest, ManifestEntry
from preproc.errors import GatewayFailed
from preproc.progress import Progress
from preproc.publish import published

#: Segments that are requested at a time.
_AT_A_TIME = 16
#: Attempts to connect for the manifest, within about a second.
_ABSENT = 3


class GatewaySource:
    """A frozen or archived batch, by its id.

    Segments that were fetched before are not fetched again, so that an interrupted run continues.
    """

    def __init__(self, url: str, batch: str, api_key: str | None = None) -> None:
        self._url, self._batch, self._api_key = url, batch, api_key

    def digest(self, _progress: Progress, /) -> str:
        """Return the digest in the manifest; raise GatewayFailed if there is no such batch or no answer."""
        return asyncio.run(self._ask_manifest()).digest

    def batch_id(self) -> str | None:
        """Return the id of the batch."""
        return self._batch

    def directory(self, folder: Path, progress: Progress, /) -> Path:
        """Fetch the segments into a folder within `folder`, and return it; raise GatewayFailed if that fails."""
        asyncio.run(self._bring(folder / self._batch, progress))
        return folder / self._batch

    async def _ask_manifest(self) -> Manifest:
        try:
            async with GlitchflowClient(self._url, retry=Retry(absent=_ABSENT), api_key=self._api_key) as client:
                return await client.manifest(self._batch)
        except (GatewayError, ValueError) as error:
            raise GatewayFailed(f"batch {self._batch}: {error}") from error

    async def _bring(self, folder: Path, progress: Progress) -> None:
        manifest = await self._ask_manifest()
        entries = manifest.segments
        groups = [entries[at : at + _AT_A_TIME] for at in range(0, len(entries), _AT_A_TIME)]
        try:
            async with GlitchflowClient(self._url, api_key=self._api_key) as client:
                for group in progress(groups, "fetching"):
                    await _bring_group(client, group, folder)
        except GatewayError as error:
            raise GatewayFailed(f"batch {self._batch}: {error}") from error
        with published(folder / MANIFEST) as partial:
            partial.write_bytes(encode_manifest(manifest))


async def _bring_group(client: GlitchflowClient, entries: Sequence[ManifestEntry], folder: Path) -> None:
    missing = [entry for entry in entries if not _is_there(folder / entry.name, entry)]
    bodies = await asyncio.gather(*(client.segment(entry.name) for entry in missing))
    for entry, body in zip(missing, bodies, strict=True):
        if hashlib.sha256(body).hexdigest() != entry.sha256:
            raise GatewayFailed(f"the SHA-256 of {entry.name} is not that in the manifest of its batch")
        with published(folder / entry.name) as partial:
            partial.write_bytes(body)


def _is_there(path: Path, entry: ManifestEntry) -> bool:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == entry.sha256
    except FileNotFoundError:
        return False
