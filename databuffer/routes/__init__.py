"""The buffer's endpoints: parse, call, answer."""

from databuffer.routes import batches, contract, ingest, operation, segments
from databuffer.routes.ingest import SegmentRoute

routers = [ingest.router, contract.router, batches.router, segments.router, operation.router]

__all__ = ["SegmentRoute", "routers"]
