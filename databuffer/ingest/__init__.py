"""From bytes to durable segments: staging, group commit, NDJSON."""
