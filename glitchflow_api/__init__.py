"""The gateway: the public API of the datastore, with authentication, limits and documentation."""

import gwservice  # noqa: F401 (it must be imported before FastAPI)
