"""The views of strain: the numbers of preprocessing, GW150914 in plain sight, a reason if nothing can be drawn."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page, Route, expect
from scipy import fft, signal

from gwclient.noise import SENSITIVITIES
from gwclient.pieces import cut
from gwclient.sources.file import FileSource
from gwwire.gps import gps_of_unix
from preproc.parameters import Parameters
from preproc.qtransform import QTransform
from preproc.whiten import Spectrum, design_filter, whiten
from scripts.trio import Trio
from tests.support.browser import open_page, plot_data, wait_for_text

RATE = 1000  # no power of two: the transform of any length is used
T0 = 1_400_000_000
EVENT_GPS = 1126259462.42
LINES = "application/x-ndjson"


@pytest.fixture(scope="module")
def trio(start_shared_trio: Callable[..., Trio]) -> Trio:
    return start_shared_trio({"EVENTS_INTERVAL": "0.5"})


@pytest.fixture(scope="module")
def page(trio: Trio, client: httpx2.Client, browser: Browser) -> Iterator[Page]:
    push(client, "H1:A", noise(1000), T0)
    page, complaints = open_page(browser, f"{trio.url}/dspage", viewport={"width": 1440, "height": 900})
    yield page
    assert complaints.errors == []


def noise(samples: int) -> NDArray[np.float64]:
    """Coloured noise with a line at 60 Hz, as large as strain, the same each time."""
    white = np.random.default_rng(5).normal(size=samples)
    line = 0.5 * np.sin(2 * np.pi * 60 * np.arange(samples) / RATE)
    return np.asarray(1e-21 * (signal.lfilter([1], [1, -0.9], white) + line))


def push(client: httpx2.Client, channel: str, strain: NDArray[np.float64], t0: float, rate: float = RATE) -> None:
    body = {"h": strain.tolist(), "t": [t0, 1 / rate], "meta": {"channel": channel}}
    assert client.post("/streamdata", json=body).json()["resp"] == "CREATED"


def module_of(page: Page, name: str) -> str:
    return (page.locator("script[type=module]").get_attribute("src") or "").replace("page.js", name)


def test_the_page_whitens_and_transforms_as_preprocessing_does(page: Page) -> None:
    strain, parameters = noise(16 * RATE), Parameters(window=14, padding=0, fmin=10, fmax=350, columns=512)
    length = parameters.spectrum_samples(RATE)
    density = signal.welch(strain, RATE, "hann", length, length // 2, detrend="linear", average="median")[1]
    taps = design_filter(Spectrum(fft.rfftfreq(length, 1 / RATE), density, [], [], 16), RATE, parameters)
    transform = QTransform(parameters, 14 * RATE, RATE)
    frequencies = transform._tile_frequencies  # noqa: SLF001 (the page draws the rows of tiles themselves)
    vars(transform)["_frequency_weights"] = np.eye(len(frequencies))
    computed: dict[str, Any] = page.evaluate(
        """async ([whitening, qtransform, samples, rate, length, options]) => {
          const url = (path) => new URL(path, document.baseURI);
          const { filtered, spectralDensity, whiteningFilter } = await import(url(whitening));
          const { qTransform } = await import(url(qtransform));
          const strain = Float64Array.from(samples);
          const density = spectralDensity(strain, rate, length, 10);
          const whitened = filtered(strain, whiteningFilter(density, rate, rate, 10));
          const { frequencies, energy } = qTransform(whitened, rate, options);
          return { density: [...density], whitened: [...whitened], frequencies, energy: energy.map((row) => [...row]) };
        }""",
        [
            *(module_of(page, name) for name in ("whitening.js", "qtransform.js")),
            strain.tolist(),
            RATE,
            length,
            {"fmin": 10, "fmax": 350, "columns": 512},
        ],
    )
    assert computed["density"][1:] == pytest.approx(density[1:], rel=1e-9)
    whitened = whiten(strain, taps)
    assert np.max(np.abs(np.array(computed["whitened"]) - whitened)) < 1e-9
    assert computed["frequencies"] == pytest.approx(frequencies, rel=1e-12)
    assert np.allclose(computed["energy"], transform(whitened), rtol=1e-5, atol=1e-6)


def test_the_design_sensitivities_are_the_clients(page: Page) -> None:
    drawn: dict[str, dict[str, Any]] = page.evaluate(
        """async ([module, detectors]) => {
          const { sensitivityOf } = await import(new URL(module, document.baseURI));
          return Object.fromEntries(detectors.map((detector) => {
            const { lowest, fit, name } = sensitivityOf(`${detector}:STRAIN`);
            const frequencies = Array.from({ length: 200 }, (_, k) => lowest * 1.03 ** k);
            return [detector, { lowest, name, frequencies, densities: frequencies.map(fit) }];
          }));
        }""",
        [module_of(page, "sensitivity.js"), list(SENSITIVITIES)],
    )
    for detector, sensitivity in SENSITIVITIES.items():
        asd = np.sqrt(sensitivity.psd(np.array(drawn[detector]["frequencies"])))
        assert drawn[detector]["densities"] == pytest.approx(asd, rel=1e-12)
        assert drawn[detector]["lowest"] == sensitivity.low_cut
        assert sensitivity.name.startswith(drawn[detector]["name"])


def test_the_strain_itself_is_drawn_sample_by_sample(page: Page) -> None:
    wait_for_text(page, "strain-note", "1 s at 1000 Hz")
    page.get_by_role("button", name="Strain", exact=True).click()
    page.wait_for_function("() => document.querySelector('#strain-view .strain-plot').data?.[0].y?.length === 1000")
    [line] = plot_data(page, "#strain-view .strain-plot")
    assert np.array(line["y"]) * 1e-21 == pytest.approx(noise(1000), rel=1e-12)
    page.get_by_role("button", name="Q-scan", exact=True).click()


@pytest.mark.parametrize(
    ("channel", "strain", "reason"),
    [
        ("H1:FEW", ([1.0, 2.0, 3.0, 2.0], RATE), "Not whitened: 4 samples without a gap, at least 64 are needed."),
        ("H1:ZERO", ([0.0] * 1000, RATE), "Not whitened: every sample is 0."),
        ("H1:BRIEF", (noise(66).tolist(), RATE), "No Q-scan: 0.066 s of strain without a gap are too short."),
        ("H1:FEWER", ([1.0, 2.0, 3.0] * 21, RATE), "Not whitened: 63 samples without a gap, at least 64 are needed."),
        ("H1:SLOW", ([1.0, 2.0, 3.0] * 24, 2), "Not whitened: sampled at 2 Hz, at least 4 Hz are needed."),
        ("H1:LARGE", ([1e160, -1e160] * 450, RATE), "Not whitened: strain of 1e+160 is larger than 1e+120."),
        ("H1:PEAK", ([*noise(850), 1e300], RATE), "Not whitened: strain of 1e+300 is larger than 1e+120."),
        ("H1:TINY", ([5e-324, 0.0] * 400, RATE), "Not whitened: the strain has no noise at some frequencies."),
    ],
)
def test_strain_that_cannot_be_analysed_is_drawn_with_the_reason(
    page: Page, client: httpx2.Client, channel: str, strain: tuple[list[float], int], reason: str
) -> None:
    """Each newly stored channel is shown, as none was chosen."""
    samples, rate = strain
    push(client, channel, np.array(samples), T0 + 100 * len(samples), rate)
    expect(page.locator("#strain-view .why")).to_have_text(reason)
    assert json.loads(page.locator("#strain-channel").input_value()) == channel
    length = len(samples)
    page.wait_for_function(
        """length => {
          const { y } = document.querySelector('#strain-view .strain-plot').data[0];
          return y.length === length && y.every((sample) => Math.abs(sample) < 1000);
        }""",
        arg=length,
    )


def test_an_end_shorter_than_the_filter_has_a_spectrum_and_a_reason(page: Page, client: httpx2.Client) -> None:
    push(client, "H1:END", noise(8 * 4096), T0, 4096)
    push(client, "H1:END", noise(1), T0 + 8, 4096)
    page.select_option("#strain-channel", label="H1:END")
    reason = "Not whitened: 1 sample at the end of the strain; the filter needs 16 after each."
    expect(page.locator("#strain-view .why")).to_have_text(reason)
    page.get_by_role("button", name="Spectrum", exact=True).click()
    expect(page.locator("#strain-view .strain-plot")).to_have_attribute("data-view", "asd")
    page.get_by_role("button", name="Q-scan", exact=True).click()


def test_the_filter_of_a_short_end_is_not_so_short_that_its_design_takes_long(page: Page) -> None:
    """The work to smooth the spectrum grows with the number of its bins over the length of the filter."""
    reason, columns = page.evaluate(
        """async (analysis) => {
          const { analyse } = await import(new URL(analysis, document.baseURI));
          const rate = 16384;
          const strain = Float64Array.from({ length: 8 * rate + 66 }, () => Math.random());
          const { why } = analyse(strain.subarray(0, 8 * rate + 16), rate, 8 * rate, 8 * rate + 16);
          const { scan } = analyse(strain, rate, 8 * rate, 8 * rate + 66);
          return [why, scan.energy.map((row) => row.length)];
        }""",
        module_of(page, "analysis.js"),
    )
    assert reason == "Not whitened: 16 samples at the end of the strain; the filter needs 65 after each."
    assert set(columns) == {1}


def test_a_single_second_is_enough_for_every_view(page: Page) -> None:
    page.select_option("#strain-channel", label="H1:A")
    expect(page.locator("#strain-view .why")).to_be_hidden()
    for view, kind in (("Whitened", "whitened"), ("Spectrum", "asd"), ("Q-scan", "scan")):
        page.get_by_role("button", name=view, exact=True).click()
        expect(page.locator("#strain-view .strain-plot")).to_have_attribute("data-view", kind)
    page.wait_for_function("() => document.querySelector('#strain-view .strain-plot').data[0].type === 'heatmap'")
    [scan] = plot_data(page, "#strain-view .strain-plot")
    assert np.isfinite(np.array(scan["z"])).all()
    assert 0 <= scan["x"][0] < scan["x"][-1] < 1


def test_strain_ahead_of_now_is_flagged(page: Page, client: httpx2.Client) -> None:
    now = gps_of_unix(client.get("/overview").json()["time"])
    push(client, "K1:AHEAD", noise(1000), round(now) + 60 * 3600 + 1800)
    wait_for_text(page, "lag-hint", "ahead of now: check the clock or dt")
    expect(page.locator("#lag")).to_have_text("2 d 12 h")
    expect(page.locator("#channels")).to_contain_text("2 d 12 h ahead")


@pytest.mark.parametrize("detector", ["H1", "L1"])
def test_gw150914_stands_out_in_the_picture_of_its_segment(
    page: Page, client: httpx2.Client, gw150914_files: dict[str, Path], detector: str
) -> None:
    [run] = FileSource((gw150914_files[detector],)).runs()
    pieces = [piece for piece in cut(run, 1) if abs(piece.span.start - EVENT_GPS) < 9]
    lines = b"".join(piece.body() + b"\n" for piece in pieces)
    answer = client.post("/streamdata", content=lines, headers={"Content-Type": LINES})
    assert answer.text.count("CREATED") == len(pieces) == 18
    start = int(EVENT_GPS)
    form = page.locator("#segments-filter")
    form.locator("[name=start]").fill(str(start))
    form.locator("[name=stop]").fill(str(start + 1))
    form.locator("[name=channel]").select_option(run.channel)
    expect(page.locator("#segments tbody tr")).to_have_count(1)
    held: list[Route] = []
    page.route("**/segments?*", lambda route: held.append(route))  # noqa: PLW0108 (playwright refuses builtins)
    with page.expect_request("**/segments?*"):
        page.locator("#segments tbody .name").click()
    expect(page.locator("#segment-view .why")).to_have_text("Computing …")
    expect(page.locator("#segment-view .strain-plot")).to_be_hidden()
    for route in held:
        route.continue_()
    page.unroute_all(behavior="wait")
    expect(page.locator("#segment-facts")).to_contain_text(f"Detector{detector}")
    expect(page.locator("#segment-view .strain-plot")).to_be_visible()
    page.wait_for_function("() => document.querySelector('#segment-view .strain-plot').data")
    [picture] = plot_data(page, "#segment-view .strain-plot")
    page.keyboard.press("Escape")
    energy, times = np.array(picture["z"]), start + np.array(picture["x"])
    row, column = np.unravel_index(np.argmax(energy), energy.shape)
    assert abs(times[column] - EVENT_GPS) < 0.03
    assert 80 < picture["y"][row] < 300
    assert energy.max() > 3 * energy[:, np.abs(times - EVENT_GPS) > 0.2].max()
