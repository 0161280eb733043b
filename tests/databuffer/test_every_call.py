"""Each order, interrupted at each of its calls in turn: by the end of the process, or by a full disk."""

import copy
import errno
import itertools
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from databuffer.settings import OnFrozen
from tests.support.buffer_machine import ALICE, BufferMachine, LostState
from tests.support.faulty_volume import Fault
from tests.support.segments import segment_body

Act = Callable[[BufferMachine, Fault | None], None]


class Machine(BufferMachine):
    """A buffer that can return to an earlier state and try again."""

    on_frozen = OnFrozen.ROTATE

    def remember(self) -> None:
        self._await(self.buffer.close())
        self._drop()
        self.copy = self.home.with_name(f"{self.home.name}-copy")
        shutil.copytree(self.home, self.copy)
        self.moment = copy.deepcopy((self.model, self.seqs))
        self._open()

    def go_back(self) -> None:
        self._drop()
        shutil.rmtree(self.home)
        shutil.copytree(self.copy, self.home)
        self.model, self.seqs = copy.deepcopy(self.moment)
        self._open()

    def teardown(self) -> None:
        super().teardown()
        shutil.rmtree(self.copy)


def body(number: int) -> bytes:
    return segment_body(number, samples=3).replace(b" ", b"")


def fill(machine: BufferMachine, *numbers: int) -> None:
    machine.append_at_once(sent=[(f"key-{n}" if n % 2 else None, body(n)) for n in numbers], fault=None)


def begin_a_batch(machine: BufferMachine) -> None:
    fill(machine, 1, 2, 3)


def begin_an_empty_frozen_batch_and_a_next_one(machine: BufferMachine) -> None:
    machine.freeze(user=ALICE, fault=None)
    fill(machine, 4, 5, 6)


def begin_a_frozen_batch_and_a_next_one(machine: BufferMachine) -> None:
    begin_a_batch(machine)
    begin_an_empty_frozen_batch_and_a_next_one(machine)


def append(machine: BufferMachine, fault: Fault | None) -> None:
    machine.append_at_once(
        sent=[("key-7", body(7)), (None, body(8)), ("key-7", body(7)), ("key-1", body(1))], fault=fault
    )


def freeze(machine: BufferMachine, fault: Fault | None) -> None:
    machine.freeze(user=ALICE, fault=fault)


def thaw(machine: BufferMachine, fault: Fault | None) -> None:
    machine.thaw(user=ALICE, fault=fault)


def flush(machine: BufferMachine, fault: Fault | None) -> None:
    machine.flush(fault=fault)


def append_and_flush(machine: BufferMachine, fault: Fault | None) -> None:
    append(machine, fault)
    flush(machine, fault)


def start(machine: BufferMachine, fault: Fault | None) -> None:
    machine.crash_and_start(fault=fault, lost=LostState.UNSYNCED)


#: Orders and settings whose calls differ.
ORDERS: list[tuple[Callable[[BufferMachine], None], Act]] = [
    (begin_a_batch, append),
    (begin_a_batch, freeze),
    (begin_a_batch, flush),
    (begin_an_empty_frozen_batch_and_a_next_one, flush),
    (begin_a_frozen_batch_and_a_next_one, flush),
    (begin_a_frozen_batch_and_a_next_one, thaw),
    (begin_a_frozen_batch_and_a_next_one, start),
]
ids = [f"{begin.__name__}-{act.__name__}" for begin, act in ORDERS]


@contextmanager
def machine_after(begin: Callable[[BufferMachine], None]) -> Iterator[Machine]:
    """Return a buffer with some segments, to which it can return."""
    machine = Machine()
    machine.start_on_an_empty_volume()
    begin(machine)
    machine.remember()
    try:
        yield machine
    finally:
        machine.teardown()


def retry_all(machine: BufferMachine) -> None:
    """Send everything with a key again: nothing is stored twice, and nothing is missing in the end."""
    machine.append_at_once(sent=[(f"key-{number}", body(number)) for number in (1, 3, 5, 7)], fault=None)


@pytest.mark.parametrize(("number", "stride"), [(None, 1), (errno.ENOSPC, 2)], ids=["dying", "full"])
@pytest.mark.parametrize(("begin", "act"), ORDERS, ids=ids)
def test_an_order_cut_short_at_any_call_loses_and_doubles_nothing(
    begin: Callable[[BufferMachine], None], act: Act, number: int | None, stride: int
) -> None:
    with machine_after(begin) as machine:
        for call in itertools.count(step=stride):
            machine.go_back()
            strikes = machine.faults.strikes
            act(machine, Fault(call, number))
            struck = machine.faults.strikes > strikes
            retry_all(machine)
            if not struck:
                break
        assert call > 5


@pytest.mark.parametrize("lost", LostState)
@pytest.mark.parametrize(("begin", "act"), [*ORDERS, (begin_a_batch, append_and_flush)])
def test_the_effect_of_an_order_survives_the_losses_of_a_crash(
    begin: Callable[[BufferMachine], None], act: Act, lost: LostState
) -> None:
    with machine_after(begin) as machine:
        act(machine, None)
        machine.crash_and_start(fault=None, lost=lost)
        retry_all(machine)
