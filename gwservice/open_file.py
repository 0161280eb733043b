"""An answer from an open file."""

import os
from collections.abc import Mapping
from typing import BinaryIO

from fastapi.responses import FileResponse
from starlette.types import Receive, Scope, Send


class OpenFileResponse(FileResponse):
    """Sends an open file, or ranges of it, even if the file is moved meanwhile; closes it afterwards.

    Starlette's own response opens the file by its path, twice, after it was made.
    """

    def __init__(self, file: BinaryIO, media_type: str, headers: Mapping[str, str] | None = None) -> None:
        self._file = file
        descriptor = file.fileno()
        super().__init__(
            f"/dev/fd/{descriptor}", headers=headers, media_type=media_type, stat_result=os.fstat(descriptor)
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        with self._file:
            await super().__call__(scope, receive, send)
