"""`make screenshots`: take pictures of the pages in nine states into docs/img/.

The page shows a real trio with the strain of GW150914 if its files are in ../shared/data/gwosc, or else with
simulated strain. It takes a minute and needs Chromium.
"""

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from scripts.trio import Trio, free_ports

_FOLDER = Path(__file__).parents[1] / "docs" / "img"
_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
#: Unix time of the GPS epoch, less the leap seconds since 1980: exact enough for simulated strain.
_GPS_EPOCH = 315_964_800 - 18
_LARGEST_BYTES = 300_000
#: The strain of GW150914, 32 s of two detectors.
_FILES = sorted((Path(__file__).parents[2] / "shared" / "data" / "gwosc").glob("*-1126259446-32.hdf5"))
_FIRST_GPS = 1126259000
_EVENT_GPS = 1126259462.42
_LAPTOP = {"width": 1440, "height": 1500}
_PHONE = {"width": 390, "height": 844}
_DRAWN = """() => [...document.querySelectorAll('.plot')]
  .filter(plot => plot.offsetParent && plot.getBoundingClientRect().top < innerHeight).every(plot => plot.data)"""


def _simulate(url: str, detectors: str, ago: int, seconds: int, seed: int) -> None:
    """Push strain that begins `ago` seconds ago."""
    command = [sys.executable, "-m", "gwclient", "simulate", "--srv", url, "--restart", "--glitch-rate", "0.5"]
    span = ["--t0", str(int(time.time()) - _GPS_EPOCH - ago), "--seconds", str(seconds), "--seed", str(seed)]
    subprocess.run([*command, "--detectors", detectors, *span], check=True, capture_output=True)


def _push(url: str, start: int, stop: int) -> None:
    """Push the strain of GW150914 between two times after `_FIRST_GPS`, or as many seconds of simulated strain."""
    if not _FILES:
        _simulate(url, "H1,L1", 478 - start, stop - start, start)
        return
    files = [part for file in _FILES for part in ("--file", str(file))]
    span = ["--start", str(_FIRST_GPS + start), "--stop", str(_FIRST_GPS + stop)]
    command = [sys.executable, "-m", "gwclient", "push", "--srv", url, "--restart", *files, *span]
    subprocess.run(command, check=True, capture_output=True)


def _order(url: str, path: str, order: dict[str, Any]) -> None:
    request = urllib.request.Request(f"{url}{path}", json.dumps(order).encode(), {"Content-Type": "application/json"})  # noqa: S310 (an http address of ours)
    urllib.request.urlopen(request, timeout=30).close()  # noqa: S310 (the same)


def _send(url: str, path: str, order: dict[str, Any], method: str = "POST") -> Any:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}{path}", json.dumps(order).encode(), headers, method=method)  # noqa: S310 (an http address of ours)
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 (the same)
        return json.load(answer)


def _perform(url: str, step: str, after: list[str], kind: str, ends: list[dict[str, Any] | None]) -> None:
    """Declare a step, and claim a record for each of `ends`: how the attempt ends, or None if it does not."""
    order = {"worker": f"{step}-1", "after": after, "kind": kind, "attempts": 1}
    if not ends:
        _send(url, f"/steps/{step}/claim", {**order, "query": {"run": "none"}})
    for end in ends:
        for record in _send(url, f"/steps/{step}/claim", order)["records"]:
            [attempt] = [each["attempt"] for each in record["steps"] if each["name"] == step]
            if end:
                _send(url, f"/records/{record['id']}/steps/{step}", {"attempt": attempt, **end}, "PUT")


def _process(url: str) -> None:
    """Perform a chain of steps on files of a run, and another on batches."""
    for number in range(12):
        _send(url, f"/records/file/ma22a_{number:03}", {"run": "ma22a", "conditions": {"temperature": 0.017}}, "PUT")
    done: dict[str, Any] = {"state": "DONE", "result": {"events": 1204}}
    broken = "Traceback (most recent call last):\nOSError: ma22a_007.raw: 512 of 4096 bytes could be read"
    failed = {"state": "FAILED", "reason": broken}
    _perform(url, "copy", [], "file", [done] * 7 + [failed] + [done] * 2 + [None])
    _perform(url, "calibrate", ["copy"], "file", [done] * 4 + [None])
    _perform(url, "noise", ["copy"], "file", [done] * 9)
    _perform(url, "optimum-filter", ["calibrate", "noise"], "file", [done] * 2)
    killed = {"state": "FAILED", "reason": "the program ended with status 137"}
    _perform(url, "spectrograms", ["sealed"], "batch", [done, killed])
    _perform(url, "publish", ["spectrograms", "archived"], "batch", [None])


def _read(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 (an http address of ours)
        return json.load(answer)


def _with_a_blip(url: str) -> int:
    """Return the GPS start of a segment of H1 with a short glitch in its middle."""
    page = _read(f"{url}/segments?before={2**62}&channel=H1:SIM-STRAIN&limit=60")
    for segment in page["segments"]:
        for glitch in _read(f"{url}/segments/{segment['name']}")["meta"].get("glitches", []):
            if glitch["kind"] == "blip" and 0.2 < glitch["gps"] - segment["t0"] < 0.8:  # noqa: PLR2004 (its middle)
                return int(segment["t0"])
    sys.exit("the simulation has no blip in the middle of a segment: use another seed")


@contextmanager
def _visit(browser: Browser, url: str, size: dict[str, int], scheme: str) -> Iterator[Page]:
    context = browser.new_context(viewport=size, color_scheme=scheme, device_scale_factor=1)  # type: ignore[arg-type]  # one of playwright's words
    page = context.new_page()
    page.goto(f"{url}/dspage")
    page.wait_for_function("() => document.getElementById('state').dataset.state !== 'UNKNOWN'")
    page.wait_for_timeout(1500)
    yield page
    context.close()


def _take(page: Page, name: str) -> None:
    """Take a picture of the visible part of the page when everything is drawn."""
    page.wait_for_function(_DRAWN)
    page.wait_for_timeout(500)
    target = _FOLDER / f"{name}.webp"
    Image.open(io.BytesIO(page.screenshot())).save(target, quality=82, method=6)
    size = target.stat().st_size
    print(f"{target.name:18} {size / 1000:4.0f} kB")
    if size > _LARGEST_BYTES:
        sys.exit(f"{target} is larger than {_LARGEST_BYTES} bytes")


def _take_all(browser: Browser, trio: Trio) -> None:
    url = trio.url
    with _visit(browser, url, _LAPTOP, "light") as page:
        _take(page, "empty")
    for seed in (1, 2):
        _simulate(url, "H1,L1,V1", 300 - 60 * seed, 20 * seed, seed)
        _order(url, "/cleanbuf", {"msg": "for the screenshots"})
    [archived, *_] = [batch["id"] for batch in _read(f"{url}/batches")["batches"]]
    _order(url, f"/batches/{archived}/verify", {})
    for start, stop in ((446, 450), (450, 457), (457, 465)):
        _push(url, start, stop)
        time.sleep(8)
    with _visit(browser, url, _LAPTOP, "light") as page:
        _take(page, "operational")
    with _visit(browser, url, _PHONE, "light") as page:
        page.locator(".strain").evaluate("panel => panel.scrollIntoView()")
        _take(page, "phone")
    with _visit(browser, url, {**_LAPTOP, "height": 1000}, "dark") as page:
        start = int(_EVENT_GPS) if _FILES else _with_a_blip(url)
        page.locator("#segments-filter [name=start]").fill(str(start))
        page.locator("#segments-filter [name=stop]").fill(str(start + 1))
        page.locator("#segments-filter [name=channel]").select_option(index=1)
        page.wait_for_function("() => document.querySelectorAll('#segments tbody tr').length === 1")
        page.locator("#segments tbody .name").click()
        page.locator("#segment-facts dt").nth(11).wait_for()
        _take(page, "segment")
    _process(url)
    with _visit(browser, url, {**_LAPTOP, "height": 900}, "light") as page:
        page.locator("#chain .node").first.wait_for()
        page.locator(".processing").evaluate("panel => panel.scrollIntoView()")
        _take(page, "processing")
    with _visit(browser, url, {**_LAPTOP, "height": 1000}, "light") as page:
        page.goto(f"{url}/search?facility=LIGO&facility=Virgo&channel=*:SIM-STRAIN")
        page.locator("#select-all").click()
        page.locator("#bundle-format").select_option("hdf5")
        page.locator("#bundle-selection").click()
        page.locator("#bundle-download").wait_for()
        page.evaluate("scrollTo(0, 0)")
        _take(page, "search")
    _push(url, 465, 478)
    _order(url, "/train", {"user": "annalisa", "token": "of the screenshots"})
    _simulate(url, "H1,L1,V1", 5, 8, 9)
    with _visit(browser, url, _LAPTOP, "dark") as page:
        _take(page, "frozen")
        process = trio.processes["glitchflow_api"]
        process.kill()
        process.wait()
        page.emulate_media(color_scheme="light")
        page.locator("#banner").wait_for()
        _take(page, "lost")


def _archive(url: str, seed: int, archive_to: list[str], keep_on_disk: int) -> str:
    """Archive a batch by a policy, wait until all of it is done that is due, and return the batch's id."""
    _simulate(url, "H1,L1,V1", 300 - 20 * seed, 20, seed)
    _order(url, "/cleanbuf", {"msg": "for the screenshots", "tiering": _policy(archive_to, keep_on_disk)})
    batch = str([each["id"] for each in _read(f"{url}/batches")["batches"] if each["state"] == "ARCHIVED"][-1])
    wanted = dict.fromkeys([*archive_to, *(["disk"] if keep_on_disk else [])], "VERIFIED")
    while _states(url, batch) != wanted:
        time.sleep(0.2)
    return batch


def _states(url: str, batch: str) -> dict[str, str]:
    return {each["tier"]: each["state"] for each in _read(f"{url}/batches/{batch}/replicas")["replicas"]}


def _policy(archive_to: list[str], keep_on_disk: int) -> dict[str, Any]:
    return {"archive_to": archive_to, "keep_on_disk": keep_on_disk}


def _take_archive(browser: Browser, trio: Trio) -> None:
    """Take the picture of the archive: batches in two tiers, while one is copied to tape and another one recalled."""
    url = trio.url
    _archive(url, 1, ["copy", "tape"], 0)
    recalled = _archive(url, 2, ["tape"], 0)
    copied = _archive(url, 3, ["copy"], 7 * 86_400)
    _archive(url, 4, ["copy", "tape"], 7 * 86_400)
    with _visit(browser, url, {**_LAPTOP, "height": 620}, "light") as page:
        _order(url, f"/batches/{recalled}/recall", {})
        _send(url, f"/batches/{copied}/tiering", _policy(["copy", "tape"], 7 * 86_400), "PUT")
        page.locator("#moving-table progress").nth(1).wait_for()
        page.locator(".archive").evaluate("panel => panel.scrollIntoView()")
        _take(page, "archive")


def main() -> int:
    """Take the pictures; return 1 if there is no browser."""
    chromium = next(filter(None, map(shutil.which, _CHROMIUM)), None)
    if chromium is None:
        print(f"screenshots: none of {', '.join(_CHROMIUM)} is installed", file=sys.stderr)
        return 1
    _FOLDER.mkdir(exist_ok=True)
    settings = {"MAX_SIZE": "5MB", "ON_FROZEN": "rotate"}
    with (
        tempfile.TemporaryDirectory() as home,
        (Path(home) / "services.log").open("wb") as log,
        Trio(Path(home), free_ports(), settings, output=log) as trio,
        sync_playwright() as playwright,
    ):
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium refuses to run as root in its sandbox
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        _take_all(browser, trio)
        for name in ("copy", "tape"):
            (Path(home) / name).mkdir()
        tiers = f"copy=file://{home}/copy?capacity=4TB tape=folder://{home}/tape?mount=0&seek=0"
        slow = {"databuffer": {"TIERS": tiers, "MOVE_RATE": "2MB"}}
        with Trio(Path(home) / "archive", free_ports(), settings, each=slow, output=log) as tiered:
            _take_archive(browser, tiered)
    return 0


if __name__ == "__main__":
    sys.exit(main())
