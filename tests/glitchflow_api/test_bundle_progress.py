"""The texts about the progress of a bundle."""

import pytest

from glitchflow_api.bundle_progress import BundleProgress
from gwwire.bundles import BundleState


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (BundleProgress("b", BundleState.BUILDING, 42), "BUILDING 42%"),
        (BundleProgress("b", BundleState.BUILDING, 0, "the first attempt failed"), "BUILDING 0%"),
        (BundleProgress("b", BundleState.READY, 100), "READY"),
        (BundleProgress("b", BundleState.FAILED, 0, "segment s.json differs"), "FAILED segment s.json differs"),
        (BundleProgress("b", BundleState.CANCELLED, 0), "CANCELLED"),
        (BundleProgress("b", BundleState.EXPIRED, 0), "EXPIRED"),
    ],
)
def test_the_text_begins_with_the_state(progress: BundleProgress, text: str) -> None:
    assert progress.text() == text
