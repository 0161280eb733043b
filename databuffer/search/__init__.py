"""Search: queries as SQL, and bundles of what they select."""
