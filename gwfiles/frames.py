"""Frame files of version 8 of the IGWD frame format (LIGO-T970130): their structures, and a writer of them.

A file begins with a header of 40 bytes. Structures follow; each has its length, class and number, its fields, and a
checksum. The first of a class comes after its description, an FrSH and an FrSE for each field. The table of contents,
and an end with the checksum of the file, close it. Numbers are little-endian.
"""

import math
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gwfiles.checksum import PosixChecksum

_VERSION, _LIBRARY, _LIBRARY_VERSION, _POSIX_CHECKSUM = 8, 0, 0, 1
_HEADER = struct.pack(
    "<5s7BHIQfd2B", b"IGWD", _VERSION, _LIBRARY_VERSION, 2, 4, 8, 4, 8,
    0x1234, 0x12345678, 0x123456789ABCDEF, math.pi, math.pi, _LIBRARY, _POSIX_CHECKSUM,
)  # fmt: skip
_LITTLE_ENDIAN, _REAL_8 = 256, 2
_NUMBERS = {
    "INT_2U": "H", "INT_2S": "h", "INT_4U": "I", "INT_4S": "i", "INT_8U": "Q", "REAL_4": "f", "REAL_8": "d",
}  # fmt: skip
_NO_REFERENCE = (0, 0)  # to a structure as (class, number)


class FrameClass(NamedTuple):
    """The number of a class of structures, and its fields as (name, type), without the checksum at the end."""

    number: int
    fields: list[tuple[str, str]]


def _parse(number: int, fields: str) -> FrameClass:
    """Parse fields as `TYPE name name, TYPE[length] name`; a type with `*` is a reference to such a structure."""
    parsed = []
    for part in fields.split(","):
        kind, *names = part.split()
        if kind.endswith("*"):
            kind = f"PTR_STRUCT({kind[:-1]} *)"
        parsed += [(name, kind) for name in names]
    return FrameClass(number, parsed)


#: The classes in a file, but FrSH and FrSE, which describe them.
CLASSES = {
    "FrameH": _parse(
        3,
        "STRING name, INT_4S run, INT_4U frame dataQuality GTimeS GTimeN, INT_2U ULeapS, REAL_8 dt, FrVect* type user,"
        "FrDetector* detectSim detectProc, FrHistory* history, FrRawData* rawData, FrProcData* procData,"
        "FrSimData* simData, FrEvent* event, FrSimEvent* simEvent, FrSummary* summaryData, FrVect* auxData,"
        "FrTable* auxTable",
    ),
    "FrProcData": _parse(
        11,
        "STRING name comment, INT_2U type subType, REAL_8 timeOffset tRange fShift, REAL_4 phase, REAL_8 fRange BW,"
        "INT_2U nAuxParam, REAL_8[nAuxParam] auxParam, STRING[nAuxParam] auxParamNames, FrVect* data aux,"
        "FrTable* table, FrHistory* history, FrProcData* next",
    ),
    "FrVect": _parse(
        20,
        "STRING name, INT_2U compress type, INT_8U nData nBytes, CHAR[nBytes] data, INT_4U nDim, INT_8U[nDim] nx,"
        "REAL_8[nDim] dx startX, STRING[nDim] unitX, STRING unitY, FrVect* next",
    ),
    "FrEndOfFrame": _parse(7, "INT_4S run, INT_4U frame GTimeS GTimeN"),
    "FrTOC": _parse(
        19,
        "INT_2S ULeapS, INT_4U nFrame, INT_4U[nFrame] dataQuality GTimeS GTimeN, REAL_8[nFrame] dt,"
        "INT_4S[nFrame] runs, INT_4U[nFrame] frame, INT_8U[nFrame] positionH nFirstADC nFirstSer nFirstTable nFirstMsg,"
        "INT_4U nSH, INT_2U[nSH] SHid, STRING[nSH] SHname,"
        "INT_4U nDetector, STRING[nDetector] nameDetector, INT_8U[nDetector] positionDetector,"
        "INT_4U nStatType, STRING[nStatType] nameStat detector, INT_4U[nStatType] nStatInstance, INT_4U nTotalStat,"
        "INT_4U[nTotalStat] tStart tEnd version, INT_8U[nTotalStat] positionStat,"
        "INT_4U nADC, STRING[nADC] name, INT_4U[nADC] channelID groupID, INT_8U[nADC][nFrame] positionADC,"
        "INT_4U nProc, STRING[nProc] nameProc, INT_8U[nProc][nFrame] positionProc,"
        "INT_4U nSim, STRING[nSim] nameSim, INT_8U[nSim][nFrame] positionSim,"
        "INT_4U nSer, STRING[nSer] nameSer, INT_8U[nSer][nFrame] positionSer,"
        "INT_4U nSummary, STRING[nSummary] nameSum, INT_8U[nSummary][nFrame] positionSum,"
        "INT_4U nEventType, STRING[nEventType] nameEvent, INT_4U[nEventType] nEvent, INT_4U nTotalEvent,"
        "INT_4U[nTotalEvent] GTimeSEvent GTimeNEvent, REAL_4[nTotalEvent] amplitudeEvent,"
        "INT_8U[nTotalEvent] positionEvent,"
        "INT_4U nSimEventType, STRING[nSimEventType] nameSimEvent, INT_4U[nSimEventType] nSimEvent,"
        "INT_4U nTotalSEvent, INT_4U[nTotalSEvent] GTimeSSim GTimeNSim, REAL_4[nTotalSEvent] amplitudeSimEvent,"
        "INT_8U[nTotalSEvent] positionSimEvent",
    ),
    "FrEndOfFile": _parse(6, "INT_4U nFrames, INT_8U nBytes seekTOC, INT_4U chkSumFrHeader"),
}
_SH, _SE = _parse(1, "STRING name, INT_2U class, STRING comment"), _parse(2, "STRING name class comment")
#: The fields that follow the checksum of a structure.
_TRAILING = {"FrEndOfFile": [("chkSumFile", "INT_4U")]}


def first(name: str) -> tuple[int, int]:
    """Return a reference to the first structure of a class in the frame."""
    return CLASSES[name].number, 0


class FrameWriter:
    """Writes structures to a new file, each class after its description, and computes the checksums."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._whole = PosixChecksum()
        self._position = 0
        self._numbers: Counter[str] = Counter()
        self._write(_HEADER)

    def structure(self, name: str, values: dict[str, Any]) -> int:
        """Write a structure with some values; return its position. The others are 0, empty, or no reference."""
        self._describe(name)
        position = self._position
        self._write_structure(name, CLASSES[name], _encoded(CLASSES[name].fields, values))
        return position

    @contextmanager
    def vector(self, values: dict[str, Any], count: int) -> Iterator[Callable[[NDArray[np.float64]], None]]:
        """Write an FrVect of `count` samples; yield a function that appends samples, float64 of shape [samples].

        Raise ValueError if not so many were appended.
        """
        self._describe("FrVect")
        size = 8 * count
        values = {"compress": _LITTLE_ENDIAN, "type": _REAL_8, "nData": count, "nBytes": size, **values}
        fields = CLASSES["FrVect"].fields
        samples = [name for name, _ in fields].index("data")
        before, after = _encoded(fields[:samples], values), _encoded(fields[samples + 1 :], values)
        checksum = PosixChecksum()
        self._write(self._head("FrVect", CLASSES["FrVect"], len(before) + size + len(after)) + before, checksum)
        start = self._position

        def append(some: NDArray[np.float64]) -> None:
            self._write(np.ascontiguousarray(some, dtype="<f8").data.cast("B"), checksum)

        yield append
        if (written := self._position - start) != size:
            raise ValueError(f"{written} bytes of samples were written, not {size}")
        self._write(after, checksum)
        self._write(struct.pack("<I", checksum.value))

    def end_frame(self, values: dict[str, Any]) -> None:
        """Write the end of the frame."""
        self.structure("FrEndOfFrame", values)
        self._numbers.clear()

    def end(self, contents: dict[str, Any]) -> None:
        """Write the table of contents, with some values, and the end of the file."""
        classes = {"nSH": len(CLASSES), "SHname": list(CLASSES), "SHid": [each.number for each in CLASSES.values()]}
        position = self.structure("FrTOC", classes | contents)
        name, kind = "FrEndOfFile", CLASSES["FrEndOfFile"]
        self._describe(name)
        size = self._position + len(self._head(name, kind, 0)) + len(_encoded(kind.fields, {})) + 8
        header = PosixChecksum(_HEADER)
        values = {"nFrames": 1, "nBytes": size, "seekTOC": size - position, "chkSumFrHeader": header.value}
        self._write_structure(name, kind, _encoded(kind.fields, values), more=4)
        self._write(struct.pack("<I", self._whole.value))

    def _describe(self, name: str) -> None:
        kind = CLASSES[name]
        self._write_structure("FrSH", _SH, _encoded(_SH.fields, {"name": name, "class": kind.number}))
        for field, of_type in [*kind.fields, ("chkSum", "INT_4U"), *_TRAILING.get(name, [])]:
            self._write_structure("FrSE", _SE, _encoded(_SE.fields, {"name": field, "class": of_type}))

    def _write_structure(self, name: str, kind: FrameClass, fields: bytes, more: int = 0) -> None:
        """Write a structure and its checksum; `more` bytes of it are written later."""
        content = self._head(name, kind, len(fields) + more) + fields
        self._write(content + struct.pack("<I", PosixChecksum(content).value))
        self._numbers[name] += 1

    def _head(self, name: str, kind: FrameClass, size: int) -> bytes:
        return struct.pack("<Q2BI", 14 + size + 4, _POSIX_CHECKSUM, kind.number, self._numbers[name])

    def _write(self, content: bytes | memoryview, *also: PosixChecksum) -> None:
        """Write bytes; they count in the checksum of the file, and in others."""
        self._file.write(content)
        self._position += len(content)
        for checksum in (self._whole, *also):
            checksum.add(content)


def _encoded(fields: list[tuple[str, str]], values: dict[str, Any]) -> bytes:
    return b"".join(_encoded_field(name, kind, values) for name, kind in fields)


def _encoded_field(name: str, kind: str, values: dict[str, Any]) -> bytes:
    of_one, is_array, length = kind.partition("[")
    if not is_array:
        return _encoded_value(kind, values.get(name))
    given = values.get(name, [None] * values.get(length.partition("]")[0], 0))
    return b"".join(_encoded_value(of_one, value) for value in given)


def _encoded_value(kind: str, value: Any) -> bytes:
    if kind == "STRING":
        text = (value or "").encode() + b"\0"
        return struct.pack("<H", len(text)) + text
    if kind in _NUMBERS:
        return struct.pack(f"<{_NUMBERS[kind]}", value or 0)
    return struct.pack("<HI", *(value or _NO_REFERENCE))
