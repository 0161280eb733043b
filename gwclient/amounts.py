"""Numbers as all commands write them for people: 1,234 segments, 4.4 MB, 2.25 s."""

_UNITS = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB"), (1, "bytes"))


def count_text(number: int, one: str, many: str = "") -> str:
    """Return a number of things, which are named `one` or `many`."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def bytes_text(size: float) -> str:
    """Return a number of bytes in the largest unit that fits."""
    unit, name = unit_of(size)
    return f"{size:.0f} {name}" if unit == 1 else f"{size / unit:.1f} {name}"


def unit_of(size: float) -> tuple[int, str]:
    """Return the largest unit of bytes that fits into a size, and its name."""
    return next((each for each in _UNITS if size >= each[0]), _UNITS[-1])


def number_text(number: float) -> str:
    """Return a number with as many decimals as needed, up to six."""
    return f"{number:,.6f}".rstrip("0").rstrip(".")
