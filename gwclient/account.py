"""The report of a push, as text and as one JSON object."""

from collections.abc import Sequence
from typing import Any

from gwclient.amounts import bytes_text, count_text
from gwclient.push import Ending, Report
from gwclient.strain import gps_text, join_spans
from gwfiles.stretches import LeftOut, Span
from gwwire.names import printable

#: Lines about what could not be read.
_MOST_SHOWN = 20


def for_programs(report: Report) -> dict[str, Any]:
    """Return the report as JSON types; spans are (start, stop) pairs in GPS seconds by channel."""
    return {
        "ending": report.ending,
        "acknowledged": report.segments,
        "bytes": report.bytes,
        "spans": join_spans(report.acknowledged),
        "refused": [{**refusal.span._asdict(), "reason": refusal.reason} for refusal in report.refusals],
        "unsent": len(report.unsent),
        "unsent_spans": join_spans(report.unsent),
        "before": len(report.before),
        "archived": report.archived,
        "skipped_spans": join_spans(each.span for each in report.left_out),
        "unread": report.unread,
        "left_out": [{**each.span._asdict(), "reason": each.reason} for each in report.left_out],
        "error": None if report.ending is Ending.COMPLETE else failure_text(report),
    }


def for_people(report: Report, lost: Sequence[LeftOut] = ()) -> str:
    """Return the report as lines of text; spans that were `lost` are shown with those left out."""
    lines = [done_text(report, "acknowledged")]
    if report.before:
        lines.append(f"{_segments(len(report.before))} acknowledged before: {_spans_text(report.before)}")
    if report.archived:
        lines.append(
            f"{report.archived:,} of these segments were stored before, and are in an archived batch, not in the "
            "current one; --restart stores them again"
        )
    lines += left_out_lines([*report.left_out, *lost])
    lines += [f"not read: {line}" for line in report.unread[:_MOST_SHOWN]]
    if (more := len(report.unread) - _MOST_SHOWN) > 0:
        lines.append(f"not read: {more:,} more")
    return "\n".join(lines)


def left_out_lines(left_out: Sequence[LeftOut]) -> list[str]:
    """Return a line for each reason, or for none, with the spans of each channel; those that touch are joined."""
    return [
        f"{_because(reason)}: {_spans_text([each.span for each in left_out if each.reason == reason])}"
        for reason in dict.fromkeys(each.reason for each in left_out)
    ]


def _because(reason: str) -> str:
    return f"left out, {reason}" if reason else "left out"


def done_text(report: Report, done: str) -> str:
    """Return in one line how many segments are done, and which spans they cover."""
    where = f": {_spans_text(report.acknowledged)}" if report.acknowledged else ""
    return f"{_segments(report.segments)} ({bytes_text(report.bytes)}) {done}{where}"


def failure_text(report: Report) -> str:
    """Return in one line why a push did not end COMPLETE, and what was not acknowledged."""
    lost = [refusal.span for refusal in report.refusals] + report.unsent
    done = report.segments
    not_sent = f"; not acknowledged: {_spans_text(lost)}" if lost else ""
    if report.error is not None:
        reason = str(report.error)
    elif report.ending is Ending.PARTLY:
        reason = "not everything could be read"  # for_people and for_programs say what
    elif report.ending is Ending.REFUSED:
        reason = f"{_segments(len(report.refusals))} refused, the first because {report.refusals[0].reason}"
    else:
        reason = "the datastore is frozen" if report.ending is Ending.FROZEN else str(report.ending)
    return f"{reason}; {done:,} of {_segments(done + len(lost))} acknowledged{not_sent}"


def _segments(number: int) -> str:
    return count_text(number, "segment")


def _spans_text(spans: Sequence[Span]) -> str:
    return ", ".join(
        f"{printable(channel) or 'no channel'} " + " ".join("[{}, {})".format(*map(gps_text, pair)) for pair in joined)
        for channel, joined in join_spans(spans).items()
    )
