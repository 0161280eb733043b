"""`python -m tools.prose`: check the wording of the project, as a part of `make check`.

Readers are physicists, operators and engineers, often not native speakers. Three rules can be checked by a program:

- A docstring of a function begins with a verb that names the effect, others with a noun. ruff's D401 finds "Returns";
  this finds "Give" and "Tell", which hide whether a function returns, stores or prints, "The", which leaves the effect
  out, and clauses in the place of a noun, such as "What is stored", also in comments that begin with `#:`.
- Standard terms replace metaphors: a batch is current, not at some place of a building.
- Markdown is read in terminals and diffs: lines have at most 100 characters. Tables are exempt: they cannot be wrapped.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

VAGUE_VERBS = ("Give", "Gives", "Tell", "Tells", "Let", "Lets", "Have", "Has")
CLAUSES = ("What", "Who", "Whether", "Which", "Where", "When", "How", "Why")
NOT_VERBS = ("The", "A", "An")
#: Also within names, such as `test_a_batch_in_hand`.
METAPHORS = ("house", "room", "door", "paper", "in hand", "whoever")
LINE_LENGTH = 100

_METAPHOR = re.compile(rf"(?<![a-z])({'|'.join(METAPHORS).replace(' ', '[ _-]')})s?(?![a-z])", re.IGNORECASE)
_CLAUSE = re.compile(rf"\s*(?:#:|//|/\*\*) ({'|'.join(CLAUSES)})\b")
_SUFFIXES = {".py", ".md", ".sh", ".toml", ".yaml", ".yml", ".json", ".js", ".html", ".css", ""}
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def findings(path: Path) -> Iterator[str]:
    """Yield a line for each breach of the rules in a file."""
    text = path.read_text()
    for number, line in enumerate(text.splitlines(), 1):
        if found := _METAPHOR.search(line.replace("paper_bgcolor", "")):  # plotly's name
            yield f"{path}:{number}: {found[0]!r} is a metaphor; use the technical term"
        if found := _CLAUSE.match(line):
            yield f"{path}:{number}: the comment begins with {found[1]!r}; use a noun"
        if path.suffix == ".md" and len(line) > LINE_LENGTH and not line.lstrip().startswith("|"):
            yield f"{path}:{number}: {len(line)} characters; wrap at {LINE_LENGTH}"
    if path.suffix == ".py":
        yield from _docstring_findings(path, ast.parse(text))


def _docstring_findings(path: Path, tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | _Function):
            continue
        first = (ast.get_docstring(node) or "").split(" ", 1)[0]
        if first in VAGUE_VERBS + CLAUSES or (first in NOT_VERBS and _is_imperative(path, node)):
            line = node.body[0].lineno
            yield f"{path}:{line}: the docstring begins with {first!r}; use a verb such as Return or Store, or a noun"


def _is_imperative(path: Path, node: ast.AST) -> bool:
    """Return whether a docstring describes an effect; properties, classes and helpers of tests may name a thing."""
    if not isinstance(node, _Function) or "tests" in path.parts:
        return False
    return not any("property" in ast.unparse(decorator) for decorator in node.decorator_list)


def main() -> int:
    """Print the findings in the files that git tracks; return 1 if there are any."""
    tracked = subprocess.run(["git", "ls-files", "-z"], check=True, capture_output=True, text=True)  # noqa: S607 (the user's git)
    paths = [path for name in tracked.stdout.split("\0") if name and not (path := Path(name)).is_symlink()]
    checked = [path for path in paths if path.suffix in _SUFFIXES and path != Path("tools/prose.py") and path.is_file()]
    found = [line for path in checked for line in findings(path)]
    print("\n".join(found) or f"prose: {len(checked)} files, nothing to change")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
