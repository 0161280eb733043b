"""Stores each segment as a durable file, and keeps counts and state of the batch; knows nothing of the upper tiers."""

import gwservice  # noqa: F401 (it must be imported before FastAPI)
