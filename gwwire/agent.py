"""The name under which every program of the datastore sends HTTP requests."""

from importlib.metadata import version

#: Some firewalls refuse the default names of HTTP libraries.
USER_AGENT = f"glitchflow-datastore/{version('glitchflow-datastore')}"
