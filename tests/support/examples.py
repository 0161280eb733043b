"""Examples of Hypothesis that are the same whatever is imported: derandomized tests have no others in another order."""

from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants


def ignore_imported_constants() -> None:
    """Make Hypothesis draw no constants of the modules of this project that are imported at the moment."""
    providers._get_local_constants = Constants  # noqa: SLF001 (there is no setting for it)
