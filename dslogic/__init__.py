"""Applies the rules: when a batch may be frozen, and the answer to a segment while the datastore is frozen."""
