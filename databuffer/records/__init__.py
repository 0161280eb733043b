"""Records of things with a name: their conditions, their status, and the steps that are done on them."""
