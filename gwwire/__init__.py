"""What the services and the client exchange: segments, public models, problem documents. No HTTP, no settings."""
