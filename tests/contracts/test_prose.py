"""`make check` rejects the wording that a program can find."""

from pathlib import Path

import pytest

from tools.prose import CLAUSES, METAPHORS, VAGUE_VERBS, findings


def found_in(folder: Path, name: str, text: str) -> list[str]:
    path = folder / name
    path.write_text(text)
    return [line.removeprefix(f"{path}:") for line in findings(path)]


@pytest.mark.parametrize("verb", VAGUE_VERBS)
def test_a_docstring_that_begins_with_a_vague_verb_is_found(tmp_path: Path, verb: str) -> None:
    (line,) = found_in(tmp_path, "module.py", f'def name():\n    """{verb} the name."""\n')
    assert line.startswith(f"2: the docstring begins with {verb!r}")


def test_a_function_is_described_by_a_verb_and_a_property_or_a_class_by_a_noun(tmp_path: Path) -> None:
    noun = '    """The name of a batch."""\n'
    assert found_in(tmp_path, "module.py", f"async def name():\n{noun}")
    assert not found_in(tmp_path, "module.py", f"class Name:\n{noun}\n    @property\n    def text(self):\n    {noun}")
    assert not found_in(tmp_path, "module.py", 'def name():\n    """Return the name."""\n')


@pytest.mark.parametrize("word", CLAUSES)
def test_a_clause_in_the_place_of_a_noun_is_found_in_docstrings_and_in_comments_on_names(
    tmp_path: Path, word: str
) -> None:
    (line,) = found_in(tmp_path, "module.py", f'class Name:\n    """{word} it is."""\n')
    assert line.startswith(f"2: the docstring begins with {word!r}")
    assert found_in(tmp_path, "other.py", f"#: {word} it is.\nNAME = 1\n") == [
        f"1: the comment begins with {word!r}; use a noun"
    ]
    assert not found_in(tmp_path, "third.py", f"# {word} it is.\nNAME = 1\n")


@pytest.mark.parametrize("word", METAPHORS)
def test_a_metaphor_is_found_in_text_and_in_names(tmp_path: Path, word: str) -> None:
    name = word.replace(" ", "_")
    assert found_in(tmp_path, "page.md", f"The {word.upper()}.\n") == [
        f"1: {word.upper()!r} is a metaphor; use the technical term"
    ]
    assert len(found_in(tmp_path, "module.py", f"def test_a_{name}():\n    print('no {word}s')\n")) == 2
    assert not found_in(tmp_path, "page.js", f"const x{word}x = 1;\n")


def test_a_long_line_of_markdown_is_found_unless_it_is_a_row_of_a_table(tmp_path: Path) -> None:
    assert found_in(tmp_path, "page.md", f"{'x' * 100}\n{'x' * 101}\n| {'x' * 101} |\n") == [
        "2: 101 characters; wrap at 100"
    ]
