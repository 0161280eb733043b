"""Where strain comes from: GWOSC, files, simulation."""
