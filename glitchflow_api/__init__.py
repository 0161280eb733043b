"""The one public door: speaks the datastore's contract to the world and documents it."""

import gwservice  # noqa: F401 (it must be imported before FastAPI)
