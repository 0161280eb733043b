"""Numbers in text files: columns as programs and spreadsheets write them, in UTF-8 or UTF-16.

Columns are separated by semicolons, tabs, commas or spaces, whichever of these, in this order, the first line of
numbers has. Between semicolons and tabs, a number may have a decimal comma.
"""

import re
from array import array
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gwclient.errors import InvalidSource, why_unread

#: A number as C, NumPy and spreadsheets write it, and the beginning of what is meant as one, so that it is no title.
_NUMBER = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan|inf(inity)?)", re.ASCII | re.IGNORECASE)
_BEGINS_NUMBER = re.compile(r"[\"'\s]*([+\-\u2212.\d]|(nan|inf)([\s,;]|$))", re.IGNORECASE)
#: The line in which a spreadsheet names its separator.
_SEPARATOR = re.compile(r"sep=.\s*", re.IGNORECASE)
_UTF16 = (b"\xff\xfe", b"\xfe\xff")

#: Returns the texts of the numbers in a line.
Split = Callable[[str], list[str]]


def read_table(path: Path) -> NDArray[np.float64]:
    """Return the numbers of a text file, shape [rows] or [rows, columns]; `#` begins a comment, and one title may.

    Raise InvalidSource for anything else.
    """
    values = array("d")  # lists of numbers would take ten times their bytes
    columns, titled = 0, False
    split: Split = _by_commas
    try:
        # A title in another encoding does no harm.
        with path.open(encoding=_encoding(path), errors="surrogateescape") as file:
            for number, line in enumerate(file, 1):
                text = line.partition("#")[0].strip()
                if not text or (not columns and _SEPARATOR.fullmatch(text)):
                    continue
                if not columns:
                    if not (titled or _BEGINS_NUMBER.match(text)):
                        titled = True
                        continue
                    split = _split_of(line.partition("#")[0])
                cells = split(text)
                columns = columns or len(cells)
                values.extend(_numbers(f"line {number} of {path}", cells, columns))
    except (OSError, UnicodeError) as error:
        raise InvalidSource(f"{path} cannot be read: {_why(error)}") from error
    table = np.frombuffer(values)
    return table.reshape(-1, columns) if columns > 1 else table


def _encoding(path: Path) -> str:
    with path.open("rb") as file:
        return "utf-16" if file.read(2) in _UTF16 else "utf-8-sig"


def _why(error: OSError | UnicodeError) -> str:
    return why_unread(error) if isinstance(error, OSError | UnicodeDecodeError) else "it is not text"


def _split_of(line: str) -> Split:
    """Return how to split the lines of a file, given its first line of numbers."""
    for separator in (";", "\t"):
        if separator in line.strip(" \n"):
            return lambda text: _by(separator, text)
    return _by_commas


def _by(separator: str, text: str) -> list[str]:
    cells = text.removesuffix(separator).split(separator)
    return [_unquoted(cell.strip()).replace(",", ".", 1) for cell in cells]


def _by_commas(text: str) -> list[str]:
    return [_unquoted(cell) for cell in text.replace(",", " ").split()]


def _unquoted(cell: str) -> str:
    return cell[1:-1].strip() if len(cell) > 1 and cell[0] == cell[-1] == '"' else cell


def _numbers(where: str, cells: list[str], count: int) -> list[float]:
    """Return the `count` numbers of a line, or raise InvalidSource."""
    if len(cells) != count:
        raise InvalidSource(f"{where} has another number of values ({len(cells)}) than the lines before ({count})")
    for cell in cells:
        if not _NUMBER.fullmatch(cell):
            raise InvalidSource(f"{where}: {cell[:40]!r} is not a number as 1.5e-21")
    return [float(cell) for cell in cells]
