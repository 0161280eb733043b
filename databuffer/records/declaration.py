"""The declaration of a step: which records wait for it."""

from gwwire.records import StepClaim


class Declaration(StepClaim, frozen=True, omit_defaults=True, kw_only=True):
    """A claim that declares a step.

    With `on_request`, which only the datastore's own steps can have, the records wait on which the step was requested.
    """

    on_request: bool = False
