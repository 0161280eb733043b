"""The steps that make, compare and delete replicas, with the errors, the rate and the turns of all moves."""
