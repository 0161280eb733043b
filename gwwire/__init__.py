"""The shapes that cross a service boundary: segments, the datastore's answers, problems. No HTTP, no settings."""
