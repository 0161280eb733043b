"""Tiers: where packs of archived batches lie besides the disk, and what moves them there and back.

The packages, each of which imports only those after it: `orders`, `upkeep`, `recalls`, `moves`, `packs`, `ledger`. The
`backends` import none of them; `tier` is their interface.
"""
