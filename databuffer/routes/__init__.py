"""The buffer's endpoints: parse, call, answer."""

from databuffer.routes import batches, bundles, changes, datastore, records, search, segments
from databuffer.routes.segments import SegmentRoute

routers = [
    *(segments.router, datastore.router, batches.router, records.router, changes.router),
    *(search.router, bundles.router),
]

__all__ = ["SegmentRoute", "routers"]
