import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from preproc.cli import main
from preproc.products import Product, Products
from tests.preproc.batches import cut, noise, write_batch

SMALL = ["--window=2", "--fmax=80", "--rows=10", "--columns=32", "--fduration=1", "--psd-fftlength=2"]
RECORD = ".products"
ALL = ["--export=annalisa", "--export=qt"]


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    segments = [
        one for seed, name in enumerate(("H1:A", "L1:A")) for one in cut(noise(14, seed, rate=256.0), name, rate=256.0)
    ]
    return write_batch(tmp_path_factory.mktemp("batch"), segments)


@pytest.fixture(autouse=True)
def torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace torch, which is large and need not be installed; the file then has the names in JSON."""

    def save(frame: dict[str, Any], path: Path) -> None:
        path.write_text(json.dumps({"cols": frame["cols"], "shape": frame["data"].shape}))

    module = ModuleType("torch")
    module.__dict__.update(save=save, from_numpy=lambda data: data)
    monkeypatch.setitem(sys.modules, "torch", module)


def run(batch: Path, out: Path, *options: str) -> int:
    return main(["run", "--data", str(batch), "--out", str(out), *SMALL, *options])


def columns_of(out: Path) -> list[str]:
    columns: list[str] = json.loads((out / "QT.pt").read_text())["cols"]
    return columns


def files_of(out: Path) -> set[str]:
    return {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file() and path.name != RECORD}


def content_of(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in files_of(out)}


@pytest.mark.parametrize("other", [["--channels=L1:*"], ["--window=4"]])
def test_a_folder_of_another_job_becomes_what_a_new_folder_would_be(
    batch: Path, tmp_path: Path, other: list[str]
) -> None:
    assert run(batch, tmp_path / "used", *ALL, "--window-png=0") == 0
    for out in ("used", "new"):
        assert run(batch, tmp_path / out, *other, *ALL) == 0
    assert content_of(tmp_path / "used") == content_of(tmp_path / "new")


def test_products_that_are_not_requested_of_the_new_job_are_removed_and_files_of_users_stay(
    batch: Path, tmp_path: Path
) -> None:
    assert run(batch, tmp_path, *ALL, "--window-png=0") == 0
    assert main(["plot", str(tmp_path / "dataset.h5"), "1"]) == 0
    assert {"QT.pt", "window-0.png", "window-1.png"} < files_of(tmp_path)
    for name in ("notes.txt", "window-2.png", "annalisa/my.h5"):
        (tmp_path / name).write_text("my own")
    assert run(batch, tmp_path, "--export=none", "--q=10") == 0
    made = {"dataset.h5", "spectrograms.png", "report.html", "report.json"}
    assert files_of(tmp_path) == made | {"notes.txt", "window-2.png", "annalisa/my.h5"}


def test_a_product_that_was_changed_stays_and_is_named_if_it_is_of_another_job(
    batch: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(batch, tmp_path, *ALL) == 0
    (tmp_path / "QT.pt").write_text("my own")
    capsys.readouterr()
    for _ in range(2):
        assert run(batch, tmp_path, "--export=none", "--q=10") == 0
        assert (tmp_path / "QT.pt").read_text() == "my own"
    words = "was changed after it was written: it stays, but is not of this dataset"
    assert capsys.readouterr().err == f"preproc: {tmp_path / 'QT.pt'} {words}\n"
    assert not (tmp_path / "annalisa").exists()


@pytest.mark.parametrize("damage", ["annalisa", "QT.pt", "spectrograms.png", "report.html", "report.json"])
@pytest.mark.parametrize("how", ["removed", "damaged"])
def test_a_product_that_is_damaged_or_incomplete_is_made_again(
    batch: Path, tmp_path: Path, damage: str, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(batch, tmp_path, *ALL) == 0
    before = content_of(tmp_path)
    path = min((tmp_path / damage).iterdir()) if damage == "annalisa" else tmp_path / damage
    path.unlink() if how == "removed" else path.write_bytes(os.urandom(1000))
    others = {name: (tmp_path / name).stat().st_mtime_ns for name in before if tmp_path / name != path}
    capsys.readouterr()
    assert run(batch, tmp_path, *ALL) == 0
    assert "nothing to do" not in capsys.readouterr().out
    assert content_of(tmp_path) == before
    changed = {name for name, time in others.items() if (tmp_path / name).stat().st_mtime_ns != time}
    assert changed <= {"report.html", "report.json"}
    assert run(batch, tmp_path, *ALL) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_another_target_is_written_and_an_unknown_one_is_refused(
    batch: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for target, columns in (
        ((), ["H1:A", "L1:A"]),
        (("--target=L1:A",), ["L1:A", "H1:A"]),
        (("--target=H1:A",), ["H1:A", "L1:A"]),
    ):
        assert run(batch, tmp_path, "--export=qt", *target) == 0
        assert columns_of(tmp_path) == columns
    capsys.readouterr()
    assert run(batch, tmp_path, "--export=qt") == 0
    assert "nothing to do" in capsys.readouterr().out
    for out in (tmp_path, tmp_path / "new"):
        assert run(batch, out, "--export=qt", "--target=NO:SUCH") == 1
        words = "preproc: the target NO:SUCH is not in the dataset, which has H1:A, L1:A\n"
        assert capsys.readouterr().err == words
    assert columns_of(tmp_path) == ["H1:A", "L1:A"]
    assert {"spectrograms.png", "report.json"} < files_of(tmp_path / "new")


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("stop_at", [1, 3])
def test_files_of_an_interrupted_run_are_kept_for_the_same_job_and_removed_for_another(
    batch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    def stopped(out: Path, *options: str) -> set[str]:
        left = stop_at
        replace = Path.replace

        def stopping(path: Path, target: Path) -> Path:
            nonlocal left
            left -= target.parent.name == "annalisa"
            if left < 0:
                raise StoppedError
            return replace(path, target)

        with monkeypatch.context() as patch, suppress(StoppedError):
            patch.setattr(Path, "replace", stopping)
            run(batch, out, *options)
        return {path.name for path in (out / "annalisa").glob("*.h5")}

    first = stopped(tmp_path / "out", *ALL)
    assert len(first) == stop_at
    kept = {name: (tmp_path / "out" / "annalisa" / name).stat().st_ino for name in first}
    assert run(batch, tmp_path / "out", *ALL) == 0
    assert {name: (tmp_path / "out" / "annalisa" / name).stat().st_ino for name in first} == kept
    assert len(stopped(tmp_path / "other", *ALL)) == stop_at
    assert run(batch, tmp_path / "other", "--window=4", *ALL) == 0
    assert run(batch, tmp_path / "new", "--window=4", *ALL) == 0
    assert content_of(tmp_path / "other") == content_of(tmp_path / "new")


def test_a_run_that_makes_no_dataset_leaves_the_products_of_the_earlier_one(batch: Path, tmp_path: Path) -> None:
    assert run(batch, tmp_path, *ALL) == 0
    before = content_of(tmp_path)
    assert run(batch, tmp_path, *ALL, "--window=30") == 1
    assert content_of(tmp_path) == before


def test_a_damaged_record_loses_only_its_damaged_lines_and_names_no_file_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    products = Products(folder)
    products.keep_only("job")
    for name in ("one", "other"):
        with products.making(Product(name, "job")) as (publish, _), publish(folder / name) as partial:
            partial.write_text(name)
    outside = tmp_path / "outside"
    outside.write_text("one")
    line = next(one for one in (folder / RECORD).read_text().splitlines() if '"file": "one"' in one)
    lines = [line.replace('"one", "sha', f'"{name}", "sha') for name in ("../outside", str(outside))]
    damaged = ["{", "[]", "3", '{"product": 1, "job": "", "options": ""}', "[" * 100_000, *lines, '{"prod']
    with (folder / RECORD).open("a") as record:
        record.write("\n".join(damaged))
    products = Products(folder)
    with products.making(Product("last", "job")):
        pass
    products = Products(folder)
    assert {one.product for one in products.complete("job")} == {"one", "other", "last"}
    assert products.keep_only("another job") == []
    assert [path.name for path in folder.iterdir()] == [RECORD]
    assert outside.exists()


@pytest.mark.parametrize("instead", ["folder", "pipe"])
def test_a_record_that_cannot_be_read_ends_the_run_before_anything_is_made(
    batch: Path, tmp_path: Path, instead: str, capsys: pytest.CaptureFixture[str]
) -> None:
    record = tmp_path / RECORD
    record.mkdir() if instead == "folder" else os.mkfifo(record)
    assert run(batch, tmp_path, *ALL) == 1
    assert capsys.readouterr().err == f"preproc: cannot read {record}: not a regular file\n"
    assert [path.name for path in tmp_path.iterdir()] == [RECORD]
