import json
import os
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from preproc.cli import main
from preproc.report import describe_dataset
from tests.preproc.batches import GPS, RATE, Strain, cut, noise, read_strain, write_batch

GOLDEN = Path(__file__).parent / "golden" / "report.json"
SMALL = ["--window=2", "--fmax=80", "--rows=10", "--columns=32", "--fduration=1", "--psd-fftlength=2", "--export=none"]


def damaged(h1: Path, l1: Path) -> list[Strain]:
    """The strain of GW150914 with everything wrong in it that there is a name for."""
    h = read_strain(h1)
    h[4 * 4096 : 4 * 4096 + 700] = h[4 * 4096]
    first = cut(h, "H1:STRAIN")
    second = cut(read_strain(l1), "L1:STRAIN")
    gone = second.pop(3)
    pieces = [*first, *second, Strain("H1:STRAIN", first[9].t0, first[9].dt, first[9].h, "a duplicate")]
    pieces.append(Strain("H1:STRAIN", first[10].t0 + 0.5, first[10].dt, h[10 * 4096 + 2048 :][:4096], "an overlap"))
    pieces.append(Strain("L1:STRAIN", second[-1].t0, second[-1].dt, 2 * second[-1].h, "a conflict"))
    pieces.append(Strain("L1:STRAIN", GPS + 40, 1 / RATE, gone.h, "too short"))
    pieces.append(Strain("L1:STRAIN", GPS + 42, 1 / RATE, gone.h, "the same again"))
    pieces.append(Strain("L1:STRAIN", GPS + 44 + 0.3 / RATE, 1 / RATE, noise(0.1), "between the samples"))
    return [*pieces, *cut(noise(2, rate=16.0), "V1:SLOW", rate=16.0)]


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory, gw150914_files: dict[str, Path]) -> Path:
    folder = tmp_path_factory.mktemp("report")
    batch = write_batch(folder / "batch", damaged(gw150914_files["H1"], gw150914_files["L1"]))
    (batch / "gwb0.json").write_bytes(b'{"h":[1e-21,NaN],"t":[0,1]}')
    (batch / "gwb1.json").write_bytes(b'{"h":')
    assert main(["run", "--data", str(batch), "--out", str(folder / "out"), "--export=none"]) == 0
    return folder / "out"


def test_the_report_of_a_damaged_batch_is_what_it_was(reported: Path) -> None:
    seen = json.loads((reported / "report.json").read_text())
    for changing in ("versions", "job"):
        del seen[changing]
    if "WRITE_GOLDEN" in os.environ:
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(json.dumps(seen, indent=1) + "\n")
    assert_alike(seen, json.loads(GOLDEN.read_text()))


def assert_alike(seen: Any, expected: Any, where: str = "report") -> None:
    """Numbers may differ in what another machine's FFT makes of the last digits."""
    if isinstance(expected, dict):
        assert seen.keys() == expected.keys(), where
        for name, value in expected.items():
            assert_alike(seen[name], value, f"{where}.{name}")
    elif isinstance(expected, list):
        assert len(seen) == len(expected), where
        for number, value in enumerate(expected):
            assert_alike(seen[number], value, f"{where}[{number}]")
    elif isinstance(expected, float):
        assert seen == pytest.approx(expected, rel=1e-4, abs=1e-9), where
    else:
        assert seen == expected, where


def test_everything_that_was_wrong_is_in_the_report(reported: Path) -> None:
    seen = json.loads((reported / "report.json").read_text())
    reasons = {found["reason"] for found in [*seen["rejected"], *seen["notes"]]}
    assert reasons >= {
        *("duplicate", "overlap", "conflicting strain", "constant strain", "gap", "same strain at another time"),
        *("off the sample grid", "other sample rate", "run too short", "not finite", "unreadable file"),
    }


def test_the_page_needs_no_other_file_and_says_what_the_json_says(reported: Path) -> None:
    page = (reported / "report.html").read_text()
    assert '<meta name="viewport" content="width=device-width' in page
    seen = json.loads((reported / "report.json").read_text())
    assert page.count("data:image/png;base64,") == 2
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    for text in (seen["batch"]["digest"], "H1:STRAIN", "conflicting strain", "run too short"):
        assert text in page


def test_text_from_the_data_cannot_become_part_of_the_page(tmp_path: Path) -> None:
    name = "<script>alert(1)<"
    batch = write_batch(tmp_path / "batch", cut(noise(12, rate=256.0), name, rate=256.0))
    assert main(["run", "--data", str(batch), "--out", str(tmp_path / "out"), *SMALL]) == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;" in page


def test_windows_have_their_part_of_the_split_and_their_peaks(reported: Path) -> None:
    seen = describe_dataset(reported / "dataset.h5")
    with h5py.File(reported / "dataset.h5") as file:
        assert [one["gps_start"] for one in seen["windows"]] == file["gps_start"][:].tolist()
        assert [one["split"].encode() for one in seen["windows"]] == file["split"][:].tolist()
        loudest = np.max(file["data"][0, 1])
    assert seen["windows"][0]["peaks"]["L1:STRAIN"]["energy"] == pytest.approx(float(loudest), rel=1e-5)
    assert seen["shape"][0] == len(seen["windows"])
