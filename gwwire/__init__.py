"""The data that services and client exchange: segments, public models, problem documents. No HTTP, no settings."""
