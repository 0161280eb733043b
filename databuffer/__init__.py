"""Stores segments, one durable file each, and keeps the batch's counts and state; knows nothing above it."""

import gwservice  # noqa: F401 (it must be imported before FastAPI)
