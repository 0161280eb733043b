import math

from preproc.findings import Finding, Reason, Tally, tally


def test_findings_are_counted_by_channel_and_reason_whole_channels_and_the_longest_first() -> None:
    findings = [
        Finding("H1", 0, 1, Reason.FILTER_EDGE),
        Finding("", math.nan, math.nan, Reason.UNREADABLE, "gwb1.json: empty"),
        Finding("H1", 9, 10, Reason.FILTER_EDGE),
        Finding("L1", 0, 5, Reason.FILTER_EDGE),
        Finding("V1", 0, 1, Reason.OTHER_RATE, "16 Hz, not 4096"),
    ]
    assert tally(findings) == [
        Tally(Reason.OTHER_RATE, "V1", 1, 1, "16 Hz, not 4096"),
        Tally(Reason.FILTER_EDGE, "L1", 1, 5, ""),
        Tally(Reason.FILTER_EDGE, "H1", 2, 2, ""),
        Tally(Reason.UNREADABLE, "", 1, 0, "gwb1.json: empty"),
    ]
