"""The patterns by which GWDataFind selects URLs: regular expressions of so few forms that each is matched quickly."""

import re

#: Text, `.*` at most three times, `^` and `$`; a `.` stands for any character. No other quantifier is possible.
PATTERN = r"^\^?[\w/:.%~-]*(\.\*[\w/:.%~-]*){0,3}\$?$"


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Return an expression that matches a URL from its beginning if `pattern`, which has the form PATTERN, is found.

    Its time grows with the length of the URL at most as that of a few searches for texts: what follows `.*` is looked
    for once (`(?>…)`), because its first place is as good as any later one.
    """
    texts = [re.escape(text).replace(r"\.", ".") for text in pattern.removeprefix("^").removesuffix("$").split(".*")]
    first = [] if pattern.startswith("^") else [""]
    last = [] if pattern.endswith("$") else [""]
    begin, *middle = [*first, *texts, *last]
    if not middle:
        return re.compile(f"{begin}$")
    *middle, end = middle
    return re.compile("".join([begin, *(f"(?>.*?{text})" for text in middle), f".*{end}$"]))
