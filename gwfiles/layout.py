"""Common rules of strain files of every format: their names, by LIGO-T050017, and the times that they can describe."""

from gwfiles.stretches import Stretch
from gwwire.channel_names import mark_of, site_of_channel, type_of_channel


class NotDescribable(Exception):
    """A file of this format cannot describe when the strain is."""


def check_within(stretch: Stretch, times: tuple[float, float], spacings: tuple[float, float]) -> None:
    """Raise NotDescribable unless a stretch is between two GPS times, and its spacing between two numbers of s."""
    first, last = times
    for gps in (stretch.t0, stretch.stop):
        if not first <= gps < last:
            raise NotDescribable(f"GPS {gps!r} is not within [{first:g}, {last:g}) s")
    least, most = spacings
    if not least <= stretch.dt <= most:
        raise NotDescribable(f"dt {stretch.dt!r} is not within [{least:g}, {most:g}] s")


def file_name(stretch: Stretch, taken: set[str], extension: str) -> str:
    """Return the name `OBS-TYPE-GPSSTART-DURATION.EXTENSION`, in whole seconds that contain the stretch.

    The type has a mark if the name without it is one of those `taken`, which are casefolded: some file systems do not
    distinguish capitals.
    """
    channel = stretch.channel
    site = site_of_channel(channel)
    span = f"{stretch.start}-{stretch.seconds}.{extension}"
    name = f"{site}-{type_of_channel(channel)}-{span}"
    if name.casefold() in taken:
        mark = mark_of(f"{channel} {stretch.t0!r} {stretch.dt!r} {stretch.count}")
        name = f"{site}-{type_of_channel(channel)}{mark}-{span}"
    return name
