"""Packs that are on tape only: their recalls, the cache of the tape, and reading from the tiers."""
