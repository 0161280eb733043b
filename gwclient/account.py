"""Tells the account of a push: in words for people, as one JSON object for programs."""

from collections.abc import Sequence
from typing import Any

from gwclient.push import Ending, Report
from gwclient.strain import LeftOut, Span, join_spans


def for_programs(report: Report, skipped: Sequence[LeftOut]) -> dict[str, Any]:
    """Give the account as JSON types; spans are (start, stop) pairs in GPS seconds by channel.

    Args:
        report: the account.
        skipped: spans that nobody tried to send, and why.

    """
    return {
        "ending": report.ending,
        "acknowledged": len(report.acknowledged),
        "bytes": report.bytes,
        "spans": join_spans(report.acknowledged),
        "refused": [{**refusal.span._asdict(), "reason": refusal.reason} for refusal in report.refusals],
        "unsent": len(report.unsent),
        "unsent_spans": join_spans(report.unsent),
        "before": len(report.before),
        "skipped_spans": join_spans(each.span for each in skipped),
        "left_out": [{**each.span._asdict(), "reason": each.reason} for each in skipped],
        "error": None if report.ending is Ending.COMPLETE else tell_failure(report),
    }


def for_people(report: Report, skipped: Sequence[LeftOut]) -> str:
    """Give what was acknowledged, now and before, and what was left out and why, in a line each."""
    lines = [tell_done(report, "acknowledged")]
    if report.before:
        lines.append(f"{_count(len(report.before))} acknowledged before: {_tell_spans(report.before)}")
    for reason in dict.fromkeys(each.reason for each in skipped):
        spans = [each.span for each in skipped if each.reason == reason]
        lines.append(f"left out, {reason}: {_tell_spans(spans)}")
    return "\n".join(lines)


def tell_done(report: Report, done: str) -> str:
    """Say in one line how many segments are done, and which spans they cover."""
    where = f": {_tell_spans(report.acknowledged)}" if report.acknowledged else ""
    return f"{_count(len(report.acknowledged))} ({report.bytes} bytes) {done}{where}"


def tell_failure(report: Report) -> str:
    """Say in one line why a push did not end COMPLETE, and what was not acknowledged."""
    lost = [refusal.span for refusal in report.refusals] + report.unsent
    done = len(report.acknowledged)
    total = _count(done + len(lost))
    not_sent = f"; not acknowledged: {_tell_spans(lost)}" if lost else ""
    return f"{_reason(report)}; {done} of {total} acknowledged{not_sent}"


def _reason(report: Report) -> str:
    if report.error is not None:
        return str(report.error)
    if report.ending is Ending.REFUSED:
        return f"{_count(len(report.refusals))} refused, the first because {report.refusals[0].reason}"
    return {Ending.FROZEN: "the datastore is frozen"}.get(report.ending, str(report.ending))


def _count(segments: int) -> str:
    return f"{segments} segment{'' if segments == 1 else 's'}"


def _tell_spans(spans: Sequence[Span]) -> str:
    return ", ".join(
        f"{channel} " + " ".join(f"[{_tell_gps(start)}, {_tell_gps(stop)})" for start, stop in joined)
        for channel, joined in join_spans(spans).items()
    )


def _tell_gps(seconds: float) -> str:
    return repr(seconds).removesuffix(".0")
