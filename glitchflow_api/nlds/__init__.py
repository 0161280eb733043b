"""NLDS' HTTP API (the Near-Line Data Store of CEDA) over holdings, for its unmodified client; off by default."""
