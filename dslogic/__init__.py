"""Applies the rules: when a batch may be frozen, what a segment meets at a frozen datastore."""
