"""The volume and everything on it: segment files, state files, catalog, and their recovery."""
