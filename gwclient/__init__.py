"""Client of a GlitchFlow datastore: the command line `gwclient`, and in Python the asynchronous `Datastore`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gwclient.datastore import Datastore, StrainSeries

__all__ = ["Datastore", "StrainSeries"]


def __getattr__(name: str) -> Any:
    """Import what `__all__` names when it is used: preprocessing imports modules here that need no HTTP client."""
    if name in __all__:
        from gwclient import datastore  # noqa: PLC0415 (see above)

        return getattr(datastore, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
