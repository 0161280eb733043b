"""The Python interface against the real trio, and the notebook that shows it."""

import asyncio
import math
import os
import subprocess
import sys
import warnings
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units
from astropy.time import Time

from gwclient import Datastore
from gwclient.errors import GatewayRefused, HeldByAnother, Incomplete, InvalidArgument, InvalidSource, NotAsExpected
from gwclient.push import PushFailed
from scripts.trio import Trio

NOTEBOOK = Path(__file__).parents[2] / "examples" / "quickstart.ipynb"
T0 = 1400000000.5
CHANNEL = "L1:MY-STRAIN"
GIVEN = {"channel": CHANNEL, "t0": 1.0, "dt": 0.25}

#: Runs the code cells of a notebook in order, as Jupyter does: `await` is allowed outside of functions.
_RUN = """
import ast, asyncio, inspect, json, sys

async def run(cells):
    names = {}
    for number, cell in enumerate(cells):
        code = compile("".join(cell["source"]), f"cell {number}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if inspect.iscoroutine(result := eval(code, names)):
            await result

notebook = json.load(open(sys.argv[1]))
asyncio.run(run([cell for cell in notebook["cells"] if cell["cell_type"] == "code"]))
"""


@pytest.fixture(scope="module")
def trio(start_shared_trio: Callable[..., Trio]) -> Trio:
    return start_shared_trio({"MAX_SIZE": "1MB"})


@pytest.fixture(scope="module")
def series() -> Any:
    with warnings.catch_warnings(action="ignore"):
        from gwpy.timeseries import TimeSeries  # noqa: PLC0415 (takes seconds)

        strain = np.random.default_rng(1).normal(0, 1e-21, 8 * 1024)
        return TimeSeries(strain, t0=T0, dt=1 / 1024, channel=CHANNEL)


def use(trio: Trio, work: Callable[[Datastore], Awaitable[None]]) -> None:
    async def run() -> None:
        async with Datastore(trio.url) as ds:
            await work(ds)

    asyncio.run(run())


def test_a_series_of_gwpy_comes_back_as_one_bit_for_bit(trio: Trio, series: Any) -> None:
    async def work(ds: Datastore) -> None:
        report = await ds.push(series)
        assert len(report.acknowledged) == 8
        back = await ds.get(CHANNEL, T0, T0 + 8)
        assert back.value.tobytes() == series.value.tobytes()
        assert (back.channel, back.t0, back.dt, back.stop) == (CHANNEL, T0, 1 / 1024, T0 + 8)
        assert np.array_equal(back.times, series.times.value)
        again = back.to_gwpy()
        assert (str(again.channel), again.t0, again.dt) == (CHANNEL, series.t0, series.dt)
        assert again.value.tobytes() == series.value.tobytes()
        inner = await ds.get(CHANNEL, T0 + 0.25, T0 + 2)
        assert inner.value.tobytes() == series.value[256:2048].tobytes()

    use(trio, work)


def test_an_array_with_a_gap_comes_back_in_two_stretches(trio: Trio) -> None:
    async def work(ds: Datastore) -> None:
        strain = np.arange(64) * 1e-21
        strain[16:32] = np.nan
        report = await ds.push(strain, t0=100.0, dt=1 / 16, channel="H1:GAP")
        assert [(each.span.start, each.span.stop) for each in report.left_out] == [(101.0, 102.0)]
        assert [(each.t0, each.stop) async for each in ds.stretches("H1:GAP")] == [(100.0, 101.0), (102.0, 104.0)]
        with pytest.raises(Incomplete, match=r"part of H1:GAP in GPS \[100, 104\) is missing; stored is .*, \[102.0, "):
            await ds.get("H1:GAP", 100, 104)
        with pytest.raises(Incomplete, match="is missing"):
            await ds.get("H1:GAP", 103, 104.1)
        with pytest.raises(NotAsExpected, match=r"nothing of V1:NONE is stored"):
            await ds.get("V1:NONE")

    use(trio, work)


def test_times_with_units_are_converted_and_masked_samples_are_left_out(trio: Trio) -> None:
    async def work(ds: Datastore) -> None:
        strain = np.ma.masked_array(np.arange(64) * 1e-21, mask=np.arange(64) >= 32)
        start = Time(1300000000, format="gps")
        report = await ds.push(strain, t0=start, dt=15.625 * units.ms, channel="H1:UNITS")
        assert [tuple(each.span) for each in report.left_out] == [("H1:UNITS", 1300000000.5, 1300000001.0)]
        back = await ds.get("H1:UNITS", start, 1300000000.5 * units.s)
        assert (back.t0, back.dt, back.value.tolist()) == (1300000000.0, 1 / 64, strain.data[:32].tolist())

    use(trio, work)


@pytest.mark.parametrize(
    ("strain", "given", "words"),
    [
        (np.zeros(4), {"t0": 1.0, "dt": 0.25}, "does not name its channel; set channel="),
        (np.zeros(4), {"channel": "MY"}, "'MY' is not a channel name: it needs a detector, such as L1:MY"),
        ("file.hdf5", {}, "a path is not accepted; use `gwclient push`, or read the file first"),
        (np.zeros(4), {"channel": CHANNEL}, "an array has no times; set t0"),
        (np.zeros((2, 2)), {"channel": CHANNEL, "t0": 1.0, "dt": 0.25}, r"has float64 of shape \(2, 2\)"),
        (["a"], {"channel": CHANNEL, "t0": 1.0, "dt": 0.25}, "it has to be a list of real numbers"),
        (np.zeros(4), {"channel": CHANNEL, "t0": 1.0, "dt": 0.0}, "dt is 0.0"),
        ([[1.0], [1.0, 2.0]], GIVEN, "is not a list of real numbers"),
        (np.array([1, 2**53 + 1]), GIVEN, r"sample 1 is 9007199254740993 \(int64\), which float64 cannot hold exactly"),
        (np.array([np.longdouble("0.1")]), GIVEN, "which float64 cannot hold exactly"),
        (np.zeros(4), GIVEN | {"dt": 64 * units.Hz}, "dt is <Quantity 64. Hz>; it has to be a number of seconds"),
        (np.zeros(4), GIVEN | {"dt": np.timedelta64(1, "s")}, "dt is .*; it has to be a number of seconds"),
        (np.zeros(4), GIVEN | {"t0": "now"}, "t0 is 'now'; it has to be a number of seconds"),
        (np.zeros(4), GIVEN | {"channel": 5}, "channel is 5; it has to be a text"),
        (np.zeros(4), GIVEN | {"seconds": math.inf}, "seconds is inf; it has to be above 0 and finite"),
        (np.zeros(4), GIVEN | {"seconds": -1}, "seconds is -1.0; it has to be above 0 and finite"),
        (np.zeros(4), GIVEN | {"meta": {"channel": "H1:B"}}, "meta has a channel; name it with the argument channel"),
        (np.zeros(4), GIVEN | {"meta": {"snr": math.nan}}, "meta: 'snr' is nan; JSON cannot hold it"),
        (np.zeros(4), GIVEN | {"meta": {"at": [datetime.now(UTC)]}}, "meta: 'at' is .*; JSON cannot hold it"),
        (np.zeros(4), GIVEN | {"meta": {"a": {1: 2}}}, "meta: 'a' is {1: 2}; JSON cannot hold it"),
        (np.zeros(4), GIVEN | {"meta": {"a": b"1"}}, "meta: 'a' is b'1'; JSON cannot hold it"),
        (np.zeros(4), GIVEN | {"meta": 5}, "meta is 5; it has to be a dict"),
    ],
)
def test_strain_that_cannot_be_pushed_is_an_error(trio: Trio, strain: Any, given: dict[str, Any], words: str) -> None:
    async def work(ds: Datastore) -> None:
        with pytest.raises((InvalidSource, InvalidArgument), match=words):
            await ds.push(strain, **given)

    use(trio, work)


def test_an_argument_that_cannot_be_used_is_an_error_of_the_client(trio: Trio) -> None:
    async def work(ds: Datastore) -> None:
        for call in (
            ds.get(None),  # type: ignore[arg-type]  # it is the error
            ds.get(CHANNEL, math.nan),
            ds.wait_until_frozen("ada", "t", poll=math.nan),
            ds.wait_until_frozen("", "t"),
            ds.wait_until_frozen("ada", "\ud800"),
            ds.train("ada", object()),  # type: ignore[arg-type]  # the same
            ds.stream(b"{}", key="a\nb"),
        ):
            with pytest.raises(InvalidArgument):
                await call

    use(trio, work)
    for arguments in ({"base_url": None}, {"base_url": "http://"}, {"base_url": trio.url, "api_key": "a\nb"}):
        with pytest.raises(InvalidArgument):
            Datastore(**arguments)


def test_a_frozen_batch_is_waited_for_refuses_strain_and_is_thawed_by_its_holder(trio: Trio) -> None:
    async def work(ds: Datastore) -> None:
        noise = np.random.default_rng(2).normal(0, 1e-21, 64 * 1024)
        await ds.push(noise[: 8 * 1024], 1000.0, 1 / 1024, "H1:NOISE")
        await ds.clean("the batch of this test begins")
        before = {batch.id for batch in await ds.batches() if batch.state == "ARCHIVED"}
        await ds.push(noise[: 8 * 1024], 1000.0, 1 / 1024, "H1:EARLY")
        with pytest.raises(NotAsExpected, match=r"the batch has 0\.\d of 1\.0 MB \(MAX_SIZE\), and the deadline"):
            await ds.wait_until_frozen("ada", "t", poll=0.1, deadline=0.1)
        waiting = asyncio.create_task(ds.wait_until_frozen("ada", "t", poll=0.1))
        await ds.push(noise, 2000.0, 1 / 1024, "H1:NOISE", seconds=64)  # one segment: a freeze comes before or after it
        frozen = await waiting
        assert (frozen.holder, frozen.n_f) == ("ada", 8 + 1)
        with pytest.raises(HeldByAnother, match="ada holds the batch"):
            await ds.wait_until_frozen("bob", "t", poll=0.1, deadline=0.1)
        with pytest.raises(PushFailed, match="the datastore is frozen; 0 of 1 segment acknowledged") as failure:
            await ds.push(noise[:16], 3000.0, 1 / 16, "H1:LATE")
        assert len(failure.value.report.unsent) == 1
        with pytest.raises(GatewayRefused, match="403"):
            await ds.thaw("bob", "t")
        await ds.thaw("ada", "t")
        assert (await ds.push(noise[:16], 3000.0, 1 / 16, "H1:LATE")).acknowledged
        assert (await ds.clean("done", frozen.batch)).resp == "CLEANED"
        after = {batch.id: batch.state for batch in await ds.batches() if batch.id not in before}
        assert (after.pop(frozen.batch), list(after.values())) == ("ARCHIVED", ["OPEN"])

    use(trio, work)


def test_the_notebook_runs_from_the_first_cell_to_the_last(trio: Trio, tmp_path: Path) -> None:
    environment = os.environ | {"SRV": trio.url, "MPLBACKEND": "agg", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", _RUN, str(NOTEBOOK)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "64 segments are stored" in done.stdout
    assert "the strain came back bit for bit" in done.stdout
    assert (tmp_path / "my-strain.png").read_bytes().startswith(b"\x89PNG")
