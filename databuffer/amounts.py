"""Numbers of things in messages."""


def count(number: int, noun: str) -> str:
    """Return a number with its noun, which is in the plural unless the number is one."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
