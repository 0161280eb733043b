"""Answers that also end when their client loses the scope that it needs."""

import asyncio

from fastapi import Response

from glitchflow_api.admission import Admission
from glitchflow_api.errors import Unauthorized
from gwservice.asgi_types import Message, Receive, Scope, Send
from gwwire import public

#: An answer that waits is checked again so often.
_CHECK_SECONDS = 1.0


class WhileAllowed(Response):
    """Another answer, as long as the credential of its request has a scope."""

    def __init__(self, answer: Response, needed: public.Scope) -> None:
        super().__init__()
        self._answer = answer
        self._needed = needed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; raise Unauthorized, also in the middle, when the credential is no longer valid."""
        admission: Admission = scope["app"].state.admission

        async def check() -> None:
            if not await admission.still_allows(scope["context"], self._needed):
                raise Unauthorized("the credential is not valid any more, or does not allow this any more")

        async def send_if_allowed(message: Message) -> None:
            await check()
            await send(message)

        answering = asyncio.ensure_future(self._answer(scope, receive, send_if_allowed))
        try:
            while not (await asyncio.wait([answering], timeout=_CHECK_SECONDS))[0]:
                await check()
            answering.result()
        finally:
            answering.cancel()
            await asyncio.wait([answering])
