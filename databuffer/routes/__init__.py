"""The buffer's endpoints: parse, call, answer."""

from databuffer.routes import batches, datastore, records, segments
from databuffer.routes.segments import SegmentRoute

routers = [segments.router, datastore.router, batches.router, records.router]

__all__ = ["SegmentRoute", "routers"]
