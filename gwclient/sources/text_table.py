"""Numbers in text files: columns as programs and spreadsheets write them, in UTF-8, UTF-16 or UTF-32.

Columns are separated by semicolons, tabs, commas or spaces, whichever of these, in this order, the first line of
numbers has. Between semicolons and tabs, a number may have a decimal comma. Elsewhere `0,5` is two numbers.
"""

import codecs
import re
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gwclient.errors import InvalidSource, why_unread
from gwclient.sources.recording import check_whole
from gwwire.segment import LARGEST_WHOLE

#: A number as C, NumPy and spreadsheets write it, and the beginning of what is meant as one, so that it is no title.
_NUMBER = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan|inf(inity)?)", re.ASCII | re.IGNORECASE)
_BEGINS_NUMBER = re.compile(r"[\"'\s]*([+\-\u2212.\d]|(nan|inf)([\s,;]|$))", re.IGNORECASE)
#: A line that may be one number with a decimal comma, or several with spaces between them.
_DECIMAL_COMMA = re.compile(r"([+-]?\d*,\d+(e[+-]?\d+)?(\s+|$))+", re.ASCII | re.IGNORECASE)
#: The line in which a spreadsheet names its separator.
_SEPARATOR = re.compile(r"sep=.\s*", re.IGNORECASE)
#: The encodings that a byte order mark names; that of UTF-32 begins with that of UTF-16.
_ENCODINGS = {
    codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16",
}  # fmt: skip

#: Returns the texts of the numbers in a line.
Split = Callable[[str], list[str]]


class Table(NamedTuple):
    """The numbers of a text file, shape [rows] or [rows, columns], and the doubt about them.

    The doubt is the end of an error's message that names the line whose commas may be decimal ones, or empty.
    """

    values: NDArray[np.float64]
    doubt: str


def read_table(path: Path) -> Table:
    """Return the numbers of a text file; `#` begins a comment, and one title may.

    Raise InvalidSource for anything else.
    """
    values = array("d")  # lists of numbers would take ten times their bytes
    columns, titled, doubt = 0, False, ""
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
                if split is _by_commas and not doubt and _DECIMAL_COMMA.fullmatch(text.replace('"', "")):
                    doubt = f"; if {text[:40]} in line {number} is written with decimal commas, write points"
                values.extend(_numbers(f"line {number} of {path}", cells, columns, doubt))
    except (OSError, UnicodeError) as error:
        raise InvalidSource(f"{path} cannot be read: {_why(error)}") from error
    table = np.frombuffer(values)
    return Table(table.reshape(-1, columns) if columns > 1 else table, doubt)


def _encoding(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(4)
    return next((name for mark, name in _ENCODINGS.items() if head.startswith(mark)), "utf-8-sig")


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


def _numbers(where: str, cells: list[str], count: int, doubt: str) -> list[float]:
    """Return the `count` numbers of a line, or raise InvalidSource; its message ends with `doubt`."""
    if len(cells) != count:
        others = f"than the lines before ({count}){doubt}"
        raise InvalidSource(f"{where} has another number of values ({len(cells)}) {others}")
    numbers = []
    for cell in cells:
        if not _NUMBER.fullmatch(cell):
            raise InvalidSource(f"{where}: {cell[:40]!r} is not a number as 1.5e-21{doubt}")
        number = float(cell)
        if not -LARGEST_WHOLE < number < LARGEST_WHOLE:
            check_whole(where, cell, number)
        numbers.append(number)
    return numbers
