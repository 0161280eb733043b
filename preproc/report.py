"""The index of a run: `report.json` for programs, `report.html` for people, which needs no other file.

`report.json` is written last: if it names a job, every file of that job exists.
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
from matplotlib.figure import Figure

from gwwire.gps import gps_text
from preproc.dataset import channels_of, findings_of, peaks, span_of, split_of
from preproc.findings import Finding, tally
from preproc.plots import draw_spectra, write_png
from preproc.publish import published

REPORT = "report.json"
PAGE = "report.html"

_DPI = 90
_DIGITS = 6
#: Rows in a table; `report.json` has all.
_MOST_ROWS = 200
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24; }
table { border-collapse: collapse; margin: 0.5rem 0 1.5rem; }
th, td { text-align: left; padding: 0.2rem 0.8rem 0.2rem 0; border-bottom: 1px solid #d8dee4; vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; }
h2 { margin-top: 2rem; }
code { overflow-wrap: anywhere; }
"""


def describe_dataset(dataset: Path) -> dict[str, Any]:
    """Return everything of a dataset but its arrays; plain types, as JSON has them, times in GPS s.

    Energies and frequencies are rounded to six digits.
    """
    with h5py.File(dataset) as file:
        attributes = dict(file.attrs)
        versions = {name: text for name, text in attributes.items() if name.startswith("version_")}
        known = {"sample_rate", "batch_digest", "batch_id", "manifest_digest", "job", *versions}
        return {
            "job": attributes["job"],
            "batch": {
                "id": attributes.get("batch_id"),
                "digest": attributes["batch_digest"],
                "manifest_digest": attributes.get("manifest_digest"),
                "files": len(file["sources"]),
                "span": list(span_of(file)),
            },
            "sample_rate": float(attributes["sample_rate"]),
            "parameters": {name: value.item() for name, value in sorted(attributes.items()) if name not in known},
            "versions": {name.removeprefix("version_"): text for name, text in sorted(versions.items())},
            "shape": list(file["data"].shape),
            "channels": _channels(file),
            "split": dict(sorted(Counter(part.value for part in split_of(file)).items())),
            "windows": _windows(file),
            "rejected": [_finding(one) for one in findings_of(file, "rejected")],
            "notes": [_finding(one) for one in findings_of(file, "notes")],
        }


def write_report(dataset: Path, contact_sheet: Path, folder: Path, products: Sequence[str]) -> None:
    """Write both reports of a dataset.

    Args:
        dataset: a `dataset.h5`.
        contact_sheet: the picture of it.
        folder: the folder of the reports.
        products: the names of what was made besides them.

    Raises:
        OutputFailed: they could not be written.

    """
    told = describe_dataset(dataset) | {"products": [*products, PAGE]}
    with h5py.File(dataset) as file:
        pictures = {"the loudest windows": contact_sheet.read_bytes(), "the spectra": _png(draw_spectra(file))}
        page = _page(told, _rejected_and_notes(file), pictures)
    with published(folder / PAGE) as partial:
        partial.write_text(page)
    with published(folder / REPORT) as partial:
        partial.write_text(json.dumps(told, indent=1) + "\n")


def products_of(folder: Path, job: str) -> set[str]:
    """Return the names of the files that were made for a job; none unless its result is complete."""
    try:
        told = json.loads((folder / REPORT).read_text())
        if told["job"] != job:
            return set()
        return {name for name in told["products"] if (folder / name).exists()}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _channels(file: h5py.File) -> list[dict[str, Any]]:
    loudest: dict[int, dict[str, float]] = {}
    for peak in peaks(file):
        if peak.channel not in loudest or peak.energy > loudest[peak.channel]["energy"]:
            loudest[peak.channel] = _rounded({"energy": peak.energy, "gps": peak.gps, "frequency": peak.frequency})
    runs: dict[str, list[list[float]]] = {}
    for row in file["runs"][:]:
        runs.setdefault(row["channel"].decode(), []).append([float(row["span"][0]), float(row["span"][1])])
    return [
        {
            "name": name,
            "runs": runs[name],
            "psd_seconds": float(file["psd"][name].attrs["seconds"]),
            "loudest": loudest[index],
        }
        for index, name in enumerate(channels_of(file))
    ]


def _windows(file: h5py.File) -> list[dict[str, Any]]:
    channels = channels_of(file)
    windows: list[dict[str, Any]] = [
        {"event_id": name.decode(), "gps_start": float(start), "split": part.value, "peaks": {}}
        for name, start, part in zip(file["event_id"][:], file["gps_start"][:], split_of(file), strict=True)
    ]
    for peak in peaks(file):
        found = _rounded({"energy": peak.energy, "gps": peak.gps, "frequency": peak.frequency})
        windows[peak.window]["peaks"][channels[peak.channel]] = found
    return windows


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: value if name == "gps" else float(f"{value:.{_DIGITS}g}") for name, value in values.items()}


def _finding(found: Finding) -> dict[str, Any]:
    unknown = math.isnan(found.start)
    return {
        "channel": found.channel,
        "start": None if unknown else found.start,
        "stop": None if unknown else found.stop,
        "reason": found.reason.value,
        "detail": found.detail,
    }


def _rejected_and_notes(file: h5py.File) -> list[tuple[str, list[Finding]]]:
    return [("Not in the dataset", findings_of(file, "rejected")), ("Noted", findings_of(file, "notes"))]


def _page(told: Mapping[str, Any], findings: Iterable[tuple[str, list[Finding]]], pictures: Mapping[str, bytes]) -> str:
    batch = told["batch"]
    start, stop = (gps_text(gps) for gps in batch["span"])
    facts = {
        "batch": batch["id"] or "not sealed",
        "digest": batch["digest"],
        "files": batch["files"],
        "span": f"GPS {start} to {stop}",
        "sample rate": f"{told['sample_rate']:.10g} Hz",
        "data": " x ".join(map(str, told["shape"])) + " (windows, channels, frequencies, times)",
        "split": ", ".join(f"{part} {count}" for part, count in told["split"].items()),
        "products": ", ".join(told["products"]),
    }
    parts = [
        "<h1>Preprocessing report</h1>",
        _table((), facts.items()),
        *(_picture(alt, body) for alt, body in pictures.items()),
        "<h2>Channels</h2>",
        _table(
            ("channel", "runs", "seconds", "power spectrum from [s]", "loudest [energy]", "at GPS", "at [Hz]"),
            (_channel_row(channel) for channel in told["channels"]),
        ),
    ]
    for title, found in findings:
        parts += [f"<h2>{title}</h2>", _tally_table(found), _finding_table(found)]
    parts += ["<h2>Windows</h2>", _window_table(told["windows"])]
    for title in ("parameters", "versions"):
        parts += [f"<h2>{title.capitalize()}</h2>", _table((), told[title].items())]
    head = f'<meta charset="utf-8"><title>Preprocessing {html.escape(batch["digest"][:12])}</title>'
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}<style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n'
    )


def _picture(alt: str, body: bytes) -> str:
    return f'<p><img alt="{alt}" src="data:image/png;base64,{base64.b64encode(body).decode()}"></p>'


def _channel_row(channel: Mapping[str, Any]) -> list[object]:
    loudest = channel["loudest"]
    seconds = sum(stop - start for start, stop in channel["runs"])
    return [
        channel["name"],
        len(channel["runs"]),
        f"{seconds:.10g}",
        channel["psd_seconds"],
        f"{loudest['energy']:.3g}",
        gps_text(loudest["gps"]),
        f"{loudest['frequency']:.1f}",
    ]


def _tally_table(found: Sequence[Finding]) -> str:
    rows = [(one.channel or "any channel", one.reason, one.count, f"{one.seconds:.6g}") for one in tally(found)]
    return _table(("channel", "reason", "count", "seconds"), rows) if rows else "<p>Nothing.</p>"


def _finding_table(found: Sequence[Finding]) -> str:
    rows = [
        (
            one.channel or "any channel",
            "" if math.isnan(one.start) else gps_text(one.start),
            "" if math.isnan(one.start) else gps_text(one.stop),
            one.reason,
            one.detail,
        )
        for one in found
    ]
    return _details(_table(("channel", "from GPS", "to GPS", "reason", "detail"), rows[:_MOST_ROWS]), len(rows))


def _window_table(windows: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            one["event_id"],
            gps_text(one["gps_start"]),
            one["split"],
            ", ".join(
                f"{name} {peak['energy']:.3g} at {peak['frequency']:.0f} Hz" for name, peak in one["peaks"].items()
            ),
        )
        for one in windows
    ]
    return _details(_table(("event", "from GPS", "split", "loudest"), rows[:_MOST_ROWS]), len(rows))


def _details(table: str, rows: int) -> str:
    if not rows:
        return ""
    shown = f"the first {_MOST_ROWS} of {rows}" if rows > _MOST_ROWS else f"all {rows}"
    return f"<details><summary>{shown}</summary>{table}</details>"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["<tr>" + "".join(f"<th>{html.escape(name)}</th>" for name in head) + "</tr>"] if head else []
    lines += ["<tr>" + "".join(_cell(value) for value in row) + "</tr>" for row in rows]
    return "<table>" + "\n".join(lines) + "</table>"


def _cell(value: object) -> str:
    kind = ' class="number"' if isinstance(value, int | float) else ""
    return f"<td{kind}>{html.escape(str(value))}</td>"


def _png(figure: Figure) -> bytes:
    picture = io.BytesIO()
    write_png(figure, picture, _DPI)
    return picture.getvalue()
