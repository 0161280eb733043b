"""The work that nobody orders: the sweep, the census, the watch over the tiers, and the repair after a loss."""
