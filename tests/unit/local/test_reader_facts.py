"""Whether each fact of docs/milvus-readers.md has a test that names it, or is listed there as not followed."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "milvus-readers.md").read_text()
FACTS, _, NOT_FOLLOWED = PAGE.partition("## Not followed")
_NUMBER = re.compile(r"\bR[1-9][0-9]*\b")


def facts(page: str) -> list[str]:
    """Return the numbers of a page's tables, in order."""
    return re.findall(r"^\| (R\d+) \| .+ \|$", page, flags=re.MULTILINE)


def reasons(text: str) -> dict[str, str]:
    """Return why each of the facts that are listed is not followed."""
    return dict(re.findall(r"^- \*\*(R\d+)\*\*: (.+)", text, flags=re.MULTILINE))


def named(source: str) -> dict[str, set[str]]:
    """Return the tests of a module that name facts in their docstrings, with the numbers of these."""
    nodes = ast.walk(ast.parse(source))
    functions = [node for node in nodes if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    docstrings = {node.name: ast.get_docstring(node) or "" for node in functions if node.name.startswith("test_")}
    return {name: found for name, text in docstrings.items() if (found := set(_NUMBER.findall(text)))}


def covered() -> set[str]:
    paths = [path for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__)]
    return {number for path in paths for numbers in named(path.read_text()).values() for number in numbers}


def test_only_a_test_names_a_fact() -> None:
    source = 'def test_a():\n    """R1, R22: so it is."""\ndef helper():\n    """R3."""\ndef test_b():\n    x = "R4"\n'
    assert named(source) == {"test_a": {"R1", "R22"}}


def test_each_fact_has_a_number_of_its_own() -> None:
    found = facts(FACTS)
    assert len(found) > 100
    assert found == [f"R{number}" for number in range(1, len(found) + 1)]
    assert FACTS.count("\n| R") == len(found), "a line of a table that is not read"


def test_each_fact_has_a_test_or_a_reason() -> None:
    known, named_somewhere = set(facts(FACTS)), covered() | set(reasons(NOT_FOLLOWED))
    assert sorted(named_somewhere - known) == [], "numbers that no fact has"
    assert sorted(known - named_somewhere) == [], "facts without a test"
