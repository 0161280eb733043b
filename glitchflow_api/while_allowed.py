"""Answers that also end when their client loses the scope that it needs."""

import asyncio

from fastapi import Response

from glitchflow_api.access import scope_needed
from glitchflow_api.admission import Admission
from glitchflow_api.errors import Unauthorized
from gwservice.asgi_types import Message, Receive, Scope, Send
from gwwire import public

#: An answer that waits is checked again so often.
_CHECK_SECONDS = 1.0


async def _check(scope: Scope, needed: public.Scope) -> None:
    """Raise Unauthorized unless the credential of a request still has a scope."""
    admission: Admission = scope["app"].state.admission
    if not await admission.still_allows(scope["context"], needed):
        raise Unauthorized("the credential is not valid any more, or does not allow this any more")


def while_allowed(scope: Scope, send: Send) -> Send:
    """Return a `send` that raises Unauthorized in the middle of an answer that must not go on.

    The first part is not checked, because the request was admitted just before: most answers have only one.
    """
    needed = scope_needed(scope["method"], scope["path"])
    is_begun = False

    async def send_if_allowed(message: Message) -> None:
        nonlocal is_begun
        if is_begun and needed is not None:
            await _check(scope, needed)
        is_begun = is_begun or message.get("more_body", False)
        await send(message)

    return send_if_allowed


class WhileAllowed(Response):
    """Another answer, as long as the credential of its request has a scope, also while the answer waits."""

    def __init__(self, answer: Response, needed: public.Scope) -> None:
        super().__init__()
        self._answer = answer
        self._needed = needed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; raise Unauthorized, also in the middle, when the credential is no longer valid."""

        async def send_if_allowed(message: Message) -> None:
            await _check(scope, self._needed)
            await send(message)

        answering = asyncio.ensure_future(self._answer(scope, receive, send_if_allowed))
        try:
            while not (await asyncio.wait([answering], timeout=_CHECK_SECONDS))[0]:
                await _check(scope, self._needed)
            answering.result()
        finally:
            answering.cancel()
            await asyncio.wait([answering])
