"""The detectors of gravitational waves, by the prefix of their channels: facility, site and instrument of each."""

from collections.abc import Collection, Mapping
from typing import NamedTuple


class Detector(NamedTuple):
    """A detector; `A1` is planned."""

    facility: str
    site: str
    instrument: str


DETECTORS: Mapping[str, Detector] = {
    "A1": Detector("LIGO-India", "Aundha", "LIGO-India"),
    "G1": Detector("GEO600", "Ruthe", "GEO-HF"),
    "H1": Detector("LIGO", "Hanford", "Advanced LIGO"),
    "K1": Detector("KAGRA", "Kamioka", "KAGRA"),
    "L1": Detector("LIGO", "Livingston", "Advanced LIGO"),
    "V1": Detector("Virgo", "Cascina", "Advanced Virgo"),
}


def detector_of(channel: str | None) -> str | None:
    """Return the detector of a channel `DET:NAME`, or None if the channel names none."""
    detector, colon, _ = (channel or "").partition(":")
    return detector if colon and detector else None


def describe(detector: str) -> Detector:
    """Return facility, site and instrument of a detector; one that is not in the table is each of them itself."""
    return DETECTORS.get(detector) or Detector(detector, detector, detector)


def detectors_with(attribute: str, values: Collection[str]) -> set[str]:
    """Return the detectors whose facility, site or instrument is one of `values`; see `describe` for unknown ones."""
    named = {name: getattr(detector, attribute) for name, detector in DETECTORS.items()}
    unknown = set(values) - named.keys() - set(named.values())
    return unknown | {name for name, value in named.items() if value in values}
