"""Shared by the services: settings, logging, the HTTP server, the client of the next tier, the relay."""
