"""The buffer's endpoints: parse, call, answer."""

from databuffer.routes import batches, bundles, changes, datastore, holdings, records, search, segments, tape, tiers
from databuffer.routes.segments import SegmentRoute

# Their routes are compared with a request in this order: the first are those that many workers call.
routers = [
    *(records.router, segments.router, datastore.router, batches.router, changes.router),
    *(search.router, bundles.router, tiers.router, tape.router, holdings.router),
]

__all__ = ["SegmentRoute", "routers"]
