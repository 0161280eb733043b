"""The buffer's endpoints: parse, call, answer."""

from databuffer.routes import batches, bundles, changes, datastore, records, search, segments
from databuffer.routes.segments import SegmentRoute

# Their routes are compared with a request in this order: the first are those that many workers call.
routers = [
    *(records.router, segments.router, datastore.router, batches.router, changes.router),
    *(search.router, bundles.router),
]

__all__ = ["SegmentRoute", "routers"]
