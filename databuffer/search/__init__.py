"""Search: queries as SQL."""
