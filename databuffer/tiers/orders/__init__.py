"""Orders and questions of users: moves and pins of batches, stage requests, and the overview of the tiers."""
