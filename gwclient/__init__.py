"""Pushes strain to the gateway and asks it questions: a command line and an async Python client."""
