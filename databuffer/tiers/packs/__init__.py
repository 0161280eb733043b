"""Packs: their arithmetic, their members on the disk, and the comparison of bytes with their manifests."""
