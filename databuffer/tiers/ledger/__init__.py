"""The ledger's tables of replicas and pins, and the locality and the missing steps that follow from their rows."""
