"""The parts of NLDS' API that live as long as the gateway."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from glitchflow_api.logic_client import LogicClient
from glitchflow_api.nlds.jobs import Jobs
from glitchflow_api.nlds.shared_files import Roots
from glitchflow_api.nlds.worker import Worker
from glitchflow_api.settings import GatewaySettings


class NldsService:
    """The transactions of NLDS' API, and the worker that carries them out.

    Raises:
        FileBroken: NLDS_STATE cannot be used.

    """

    def __init__(self, settings: GatewaySettings, logic: LogicClient) -> None:
        assert settings.NLDS_STATE is not None  # noqa: S101 (a rule of the settings)
        self.jobs = Jobs(settings.NLDS_STATE)
        self.worker = Worker(logic, Roots(settings.nlds_roots), self.jobs)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Go on with the transactions that have not ended, until the block ends."""
        for job in self.jobs.unfinished():
            self.worker.begin(job)
        try:
            yield
        finally:
            await self.worker.close()
            self.jobs.close()
