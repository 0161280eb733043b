"""The buffer's endpoints: parse, call, answer."""

from databuffer.routes import batches, datastore, segments
from databuffer.routes.segments import SegmentRoute

routers = [segments.router, datastore.router, batches.router]

__all__ = ["SegmentRoute", "routers"]
