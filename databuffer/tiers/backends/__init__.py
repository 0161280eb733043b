"""The stores of packs: each backend of the interface `Tier`, and what opens those of the setting TIERS."""
