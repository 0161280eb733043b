"""The reports of a run: a summary for the terminal, `report.json` and `report.html`.

`report.html` needs no other file. `report.json` is written last: if it names a job, every file of that job exists.
"""

import base64
import html
import io
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py

from gwwire.gps import gps_text
from preproc.dataset import Peak, channels_of, findings_of, loudest_of, peaks, psd_seconds, runs_of, span_of, split_of
from preproc.findings import Finding, shortened, summarise_findings, tally
from preproc.plots import draw_spectra, write_png
from preproc.publish import Publish, published
from preproc.split import Part

REPORT = "report.json"
PAGE = "report.html"

_DPI = 90
#: Rows in a table of the page; `report.json` has all.
_MOST_ROWS = 200
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24; }
table { border-collapse: collapse; margin: 0.5rem 0 1.5rem; display: block; overflow-x: auto; }
th, td { text-align: left; padding: 0.2rem 0.8rem 0.2rem 0; border-bottom: 1px solid #d8dee4; vertical-align: top; }
td.number { font-variant-numeric: tabular-nums; }
img { max-width: 100%; }
h2 { margin-top: 2rem; }
code { overflow-wrap: anywhere; }
"""


def describe_dataset(dataset: Path) -> dict[str, Any]:
    """Return the content of a dataset without its arrays, in the types of JSON; times are GPS seconds.

    Energies and frequencies are rounded to six digits.
    """
    with h5py.File(dataset) as file:
        attributes = dict(file.attrs)
        versions = {name: text for name, text in attributes.items() if name.startswith("version_")}
        known = {"sample_rate", "batch_digest", "batch_id", "manifest_digest", "job", *versions}
        return {
            "job": attributes["job"],
            "batch": {"id": attributes.get("batch_id"), "digest": attributes["batch_digest"]}
            | {"manifest_digest": attributes.get("manifest_digest"), "files": len(file["sources"])}
            | {"span": list(span_of(file))},
            "sample_rate": float(attributes["sample_rate"]),
            "parameters": {name: value.tolist() for name, value in sorted(attributes.items()) if name not in known},
            "versions": {name.removeprefix("version_"): text for name, text in sorted(versions.items())},
            "shape": list(file["data"].shape),
            "channels": _channels(file),
            "split": dict(sorted(Counter(part.value for part in split_of(file)).items())),
            "windows": _windows(file),
            "rejected": [_finding(one) for one in findings_of(file, "rejected")],
            "notes": [_finding(one) for one in findings_of(file, "notes")],
        }


def write_report(
    dataset: Path, contact_sheet: Path, folder: Path, products: Sequence[str], publish: Publish = published
) -> None:
    """Write both reports about a dataset and its `products` into a folder, or raise OutputFailed."""
    described = describe_dataset(dataset) | {"products": [*products, PAGE]}
    spectra = io.BytesIO()
    with h5py.File(dataset) as file:
        write_png(draw_spectra(file), spectra, _DPI)
        findings = {"Not in the dataset": findings_of(file, "rejected"), "Noted": findings_of(file, "notes")}
    pictures = {"the loudest windows": contact_sheet.read_bytes(), "the spectra": spectra.getvalue()}
    with publish(folder / PAGE) as partial:
        partial.write_text(_page(described, findings, pictures))
    with publish(folder / REPORT) as partial:
        partial.write_text(json.dumps(described, indent=1) + "\n")


def result_of(folder: Path) -> dict[str, Any]:
    """Return where the complete result of a run is, and what it contains, as the result of a step."""
    described = json.loads((folder / REPORT).read_text())
    windows, channels, *_ = described["shape"]
    return {
        "folder": str(folder.resolve()),
        "products": described["products"],
        "windows": windows,
        "channels": channels,
        "split": described["split"],
        "batch_digest": described["batch"]["digest"],
        "job": described["job"],
    }


def summarise(dataset: Path) -> str:
    """Return a summary of a dataset in about twenty lines."""
    with h5py.File(dataset) as file:
        attributes, channels, runs, peaks = file.attrs, channels_of(file), runs_of(file), loudest_of(file)
        windows, _, rows, columns = file["data"].shape
        start, stop = (gps_text(gps) for gps in span_of(file))
        width = max(map(len, channels))
        about_channels = [
            f"  {name:<{width}}  {attributes['sample_rate']:.10g} Hz, {_count(len(runs[name]), 'run')}, "
            f"{_seconds(runs[name]):.10g} s, power spectrum from {psd_seconds(file, name):.4g} s, "
            f"loudest {peak.energy:.3g} at {peak.frequency:.0f} Hz"
            for name, peak in zip(channels, peaks, strict=True)
        ]
        peak = max(peaks, key=lambda peak: peak.energy)
        shape = f"{windows} windows of {attributes['window']:g} s from GPS {gps_text(file['gps_start'][0])}"
        axes = f"{rows} frequencies from {attributes['fmin']:g} to {attributes['fmax']:g} Hz, {columns} times"
        place = f"{channels[peak.channel]} at GPS {peak.gps:.4f}, {peak.frequency:.1f} Hz"
        lines = [
            f"batch    {len(file['sources'])} files, GPS {start} to {stop}, digest {attributes['batch_digest'][:12]}",
            f"dataset  {shape}, {_count(len(channels), 'channel')}, {axes}",
            f"split    {_split_text(file)}",
            "channels",
            *shortened(about_channels),
            *summarise_findings("not in the dataset", findings_of(file, "rejected")),
            *summarise_findings("noted", findings_of(file, "notes")),
            f"loudest  {place}, normalised energy {peak.energy:.1f}",
        ]
    return "\n".join(lines)


def _split_text(file: h5py.File) -> str:
    counts = Counter(split_of(file))
    return f"{', '.join(f'{part} {counts[part]}' for part in Part if counts[part])} windows"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number > 1)}"


def _seconds(spans: Iterable[Sequence[float]]) -> float:
    return sum(stop - start for start, stop in spans)


def _channels(file: h5py.File) -> list[dict[str, Any]]:
    runs = runs_of(file)
    return [
        {"name": name, "runs": runs[name], "psd_seconds": psd_seconds(file, name), "loudest": _peak(peak)}
        for name, peak in zip(channels_of(file), loudest_of(file), strict=True)
    ]


def _windows(file: h5py.File) -> list[dict[str, Any]]:
    channels = channels_of(file)
    windows: list[dict[str, Any]] = [
        {"event_id": name.decode(), "gps_start": float(start), "split": part.value, "peaks": {}}
        for name, start, part in zip(file["event_id"][:], file["gps_start"][:], split_of(file), strict=True)
    ]
    for peak in peaks(file):
        windows[peak.window]["peaks"][channels[peak.channel]] = _peak(peak)
    return windows


def _peak(peak: Peak) -> dict[str, float]:
    return {"energy": float(f"{peak.energy:.6g}"), "gps": peak.gps, "frequency": float(f"{peak.frequency:.6g}")}


def _finding(found: Finding) -> dict[str, Any]:
    start, stop = (None, None) if math.isnan(found.start) else (found.start, found.stop)
    named = {"channel": found.channel, "start": start, "stop": stop}
    return named | {"reason": found.reason.value, "detail": found.detail}


def _page(described: Mapping[str, Any], findings: Mapping[str, list[Finding]], pictures: Mapping[str, bytes]) -> str:
    batch = described["batch"]
    start, stop = (gps_text(gps) for gps in batch["span"])
    facts = {
        "batch": batch["id"] or "not sealed",
        "digest": batch["digest"],
        "files": batch["files"],
        "span": f"GPS {start} to {stop}",
        "sample rate": f"{described['sample_rate']:.10g} Hz",
        "data": " x ".join(map(str, described["shape"])) + " (windows, channels, frequencies, times)",
        "split": ", ".join(f"{part} {count}" for part, count in described["split"].items()),
        "products": ", ".join(described["products"]),
    }
    channel_head = "channel", "runs", "seconds", "power spectrum from [s]", "loudest [energy]", "at GPS", "at [Hz]"
    parts = ["<h1>Preprocessing report</h1>", _table((), facts.items())]
    for alt, picture in pictures.items():
        parts.append(f'<p><img alt="{alt}" src="data:image/png;base64,{base64.b64encode(picture).decode()}"></p>')
    parts += ["<h2>Channels</h2>", _table(channel_head, map(_channel_row, described["channels"]))]
    for title, found in findings.items():
        parts += [f"<h2>{title}</h2>", _tally_table(found), _finding_table(found)]
    parts += ["<h2>Windows</h2>", _window_table(described["windows"])]
    for title in ("parameters", "versions"):
        parts += [f"<h2>{title.capitalize()}</h2>", _table((), described[title].items())]
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    head += f"<title>Preprocessing {html.escape(batch['digest'][:12])}</title>"
    head = f'<html lang="en"><head>{head}<style>{_STYLE}</style></head>'
    return "\n".join(["<!doctype html>", head, "<body>", *parts, "</body></html>", ""])


def _channel_row(channel: Mapping[str, Any]) -> list[object]:
    loudest = channel["loudest"]
    return [
        *(channel["name"], len(channel["runs"]), f"{_seconds(channel['runs']):.10g}", channel["psd_seconds"]),
        *(f"{loudest['energy']:.3g}", gps_text(loudest["gps"]), f"{loudest['frequency']:.1f}"),
    ]


def _tally_table(found: Sequence[Finding]) -> str:
    rows = [(one.channel or "any channel", one.reason, one.count, f"{one.seconds:.6g}") for one in tally(found)]
    return _table(("channel", "reason", "count", "seconds"), rows) if rows else "<p>Nothing.</p>"


def _finding_table(found: Sequence[Finding]) -> str:
    rows = []
    for one in found:
        span = ("", "") if math.isnan(one.start) else (gps_text(one.start), gps_text(one.stop))
        rows.append((one.channel or "any channel", *span, one.reason, one.detail))
    return _details(("channel", "from GPS", "to GPS", "reason", "detail"), rows)


def _window_table(windows: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for one in windows:
        peaks = (f"{name} {peak['energy']:.3g} at {peak['frequency']:.0f} Hz" for name, peak in one["peaks"].items())
        rows.append((one["event_id"], gps_text(one["gps_start"]), one["split"], ", ".join(peaks)))
    return _details(("event", "from GPS", "split", "loudest"), rows)


def _details(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    if not rows:
        return ""
    shown = f"the first {_MOST_ROWS} of {len(rows)}" if len(rows) > _MOST_ROWS else f"all {len(rows)}"
    return f"<details><summary>{shown}</summary>{_table(head, rows[:_MOST_ROWS])}</details>"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["<tr>" + "".join(f"<th>{html.escape(name)}</th>" for name in head) + "</tr>"] if head else []
    lines += ["<tr>" + "".join(_cell(value) for value in row) + "</tr>" for row in rows]
    return "<table>" + "\n".join(lines) + "</table>"


def _cell(value: object) -> str:
    kind = ' class="number"' if isinstance(value, int | float) else ""
    return f"<td{kind}>{html.escape(str(value))}</td>"
