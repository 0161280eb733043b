"""Applies the rules: when a batch may be frozen, and how a frozen datastore answers a segment."""
