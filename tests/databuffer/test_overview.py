"""The overview of the buffer; the state machine checks that its counts are always right."""

import asyncio
import os
import re
import sys
import time
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from databuffer.app import create_buffer
from databuffer.buffer import Buffer
from databuffer.errors import BufferFrozen, VolumeFull
from databuffer.settings import BufferSettings, OnFrozen
from databuffer.storage.catalog import SegmentRow
from databuffer.storage.tally import counted, joined
from gwwire.datastore import FreezeOrder
from gwwire.overview import ChannelOverview
from gwwire.public import ThawOrder
from tests.support.faulty_volume import Fault, FaultyVolume
from tests.support.segments import segment_body

pytestmark = pytest.mark.anyio
OpenBuffer = Callable[[], Awaitable[Buffer]]
ALICE = FreezeOrder("alice", "secret")


def row(name: str, channel: str | None, t0: float) -> SegmentRow:
    return SegmentRow(name, 10, "", channel, t0, 0.5, 4, 0)


async def test_an_empty_datastore_has_an_overview(buffer: Buffer) -> None:
    overview = await buffer.queries.overview()
    assert (overview.state, overview.holder, overview.digest) == ("OPERATIONAL", None, None)
    assert (overview.n_itm, overview.buff_size, overview.seq, overview.channels) == (0, 0, 0, [])
    assert overview.ready
    assert overview.free
    assert overview.size
    assert overview.free < overview.size
    assert overview.cannot_store is None


async def test_the_inodes_of_the_volume_are_in_the_overview(buffer: Buffer, settings: BufferSettings) -> None:
    overview, system = await buffer.queries.overview(), os.statvfs(settings.DTVOLROOT)
    assert overview.total_inodes == (system.f_files or None)
    assert (overview.free_inodes is None) == (overview.total_inodes is None)
    assert overview.free_inodes is None or 0 < overview.free_inodes <= system.f_files


async def test_the_overview_of_a_frozen_batch_has_its_time_and_its_holder(open_buffer: OpenBuffer) -> None:
    buffer = await open_buffer()
    await buffer.ingest.append(segment_body(1))
    opened = (await buffer.queries.overview()).since
    before = time.time()
    frozen = await buffer.batches.freeze(ALICE)
    told = await buffer.queries.overview()
    assert (told.holder, told.digest) == ("alice", frozen.digest)
    assert opened < before <= told.since <= told.time
    await buffer.close()
    again = await (await open_buffer()).queries.overview()
    assert (again.since, again.digest, again.seq) == (told.since, told.digest, told.seq)


async def test_the_newest_events_are_in_the_overview_and_the_segments_refused_since_the_freeze(
    buffer: Buffer,
) -> None:
    await buffer.ingest.append(segment_body(1))
    await buffer.batches.freeze(ALICE)
    for number in (2, 3):
        with pytest.raises(BufferFrozen):
            await buffer.ingest.append(segment_body(number))
    assert (await buffer.queries.overview()).refused == 2
    await buffer.batches.thaw(ThawOrder(ALICE.user, ALICE.token))
    await buffer.batches.freeze(ALICE)
    overview = await buffer.queries.overview()
    assert overview.refused == 0
    assert [event.event for event in overview.events] == ["open", "freeze", "thaw", "freeze"]
    assert overview.events[1].detail.startswith("frozen by alice: 1 segments")
    assert overview.events[1].at <= overview.events[2].at <= overview.time
    for _ in range(20):
        await buffer.batches.thaw(ThawOrder(ALICE.user, ALICE.token))
        await buffer.batches.freeze(ALICE)
    assert len((await buffer.queries.overview()).events) == 30


async def test_a_segment_whose_end_is_no_finite_number_is_kept_over_a_restart(
    open_buffer: OpenBuffer, settings: BufferSettings
) -> None:
    await (await open_buffer()).close()
    for number in range(2):
        (settings.DATAROOT / f"gwb{number + 1}.json").write_bytes(b'{"h":[1.0,2.0],"t":[0,1.5e308]}')
    buffer = await open_buffer()
    told = (await buffer.queries.overview()).channels
    assert (told[0].stop, told[0].seconds) == (sys.float_info.max, sys.float_info.max)
    await buffer.close()
    assert (await (await open_buffer()).queries.overview()).channels == told


async def test_seqs_go_on_over_batches_and_restarts(open_buffer: OpenBuffer) -> None:
    buffer = await open_buffer()
    await buffer.ingest.append(segment_body(1))
    first = await buffer.queries.overview()
    await buffer.batches.flush()
    assert (await buffer.queries.overview()).seq == first.seq
    await buffer.close()
    buffer = await open_buffer()
    await buffer.ingest.append(segment_body(2))
    told = await buffer.queries.overview()
    assert told.seq > first.seq
    assert told.archived == 1
    assert told.batch != first.batch


async def test_the_overview_has_the_channels_of_the_current_and_the_next_batch(settings: BufferSettings) -> None:
    buffer = create_buffer(settings.model_copy(update={"ON_FROZEN": OnFrozen.ROTATE}))
    await buffer.open()
    await buffer.ingest.append(segment_body(1, t0=10.0))
    await buffer.batches.freeze(ALICE)
    later = await buffer.ingest.append(segment_body(2, t0=0.0))
    told = await buffer.queries.overview()
    await buffer.close()
    assert told.next
    assert (told.n_itm, told.next.n_itm) == (1, 1)
    [channel] = told.channels
    assert (channel.segments, channel.start, channel.latest) == (2, 0.0, later.name)


async def test_the_overview_has_the_last_error_of_the_volume(buffer: Buffer) -> None:
    with FaultyVolume() as faults:
        faults.arm(Fault(call=0, number=28, times=1000))
        with pytest.raises(VolumeFull):
            await buffer.ingest.append(segment_body(1))
        during = await buffer.queries.overview()
        faults.heal()
        after = await buffer.queries.overview()
    assert not during.ready
    assert during.cannot_store
    assert re.fullmatch(r"No space left on device.* \([\d,]+ bytes.* are free\)", during.cannot_store)
    assert after.ready
    assert after.cannot_store is None
    assert after.last_error
    assert after.last_error.code == "volume-full"
    assert "No space left" in after.last_error.detail
    assert after.time - 60 < after.last_error.at <= after.time


async def test_a_volume_that_went_away_leaves_an_overview(buffer: Buffer, settings: BufferSettings) -> None:
    await buffer.ingest.append(segment_body(1))
    away = settings.DTVOLROOT.with_name("away")
    await asyncio.to_thread(settings.DTVOLROOT.rename, away)
    told = await buffer.queries.overview()
    await asyncio.to_thread(away.rename, settings.DTVOLROOT)
    assert (told.n_itm, told.ready, told.free, told.size) == (1, False, None, None)
    assert (told.free_inodes, told.total_inodes) == (None, None)
    assert told.cannot_store
    assert str(settings.DTVOLROOT) in told.cannot_store
    assert (await buffer.queries.overview()).ready


async def test_of_very_many_channels_the_overview_has_those_that_received_a_segment_last(buffer: Buffer) -> None:
    for number in range(503):
        body = f'{{"h":[1.0],"t":[0,1],"meta":{{"channel":"H1:{number:03}"}}}}'
        await buffer.ingest.wait_for_capacity()
        last = buffer.ingest.submit(body.encode())
    await last.answered
    told = await buffer.queries.overview()
    assert [channel.channel for channel in told.channels] == [f"H1:{number:03}" for number in range(3, 503)]
    assert told.more_channels == 3


def test_a_tally_counts_channel_by_channel() -> None:
    tally = counted({}, [row("a", "H1:A", 10), row("b", None, 0), row("c", "H1:A", 4)])
    assert tally == {
        "H1:A": ChannelOverview("H1:A", 2, 20, 4.0, 4, 12, "c"),
        None: ChannelOverview(None, 1, 10, 2.0, 0, 2, "b"),
    }
    both = joined(tally, counted({}, [row("d", "H1:A", 20), row("e", "L1:A", 5)]))
    assert both["H1:A"] == ChannelOverview("H1:A", 3, 30, 6.0, 4, 22, "d")
    assert both.keys() == {"H1:A", "L1:A", None}


def test_segments_of_extreme_length_leave_an_overview_that_json_can_hold() -> None:
    absurd = row("a", None, 1e308)._replace(dt=1e308, n=2)
    (told,) = counted(counted({}, [absurd]), [absurd, absurd]).values()
    assert msgspec.json.decode(msgspec.json.encode(told), type=ChannelOverview) == told
