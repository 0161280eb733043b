"""Sources of strain; each returns runs of strain in the order of their t0."""
