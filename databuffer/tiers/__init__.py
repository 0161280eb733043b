"""Tiers: where packs of archived batches lie besides the disk, and what moves them there and back."""
