"""Whether each text that docs/troubleshooting.md quotes is one that the package writes."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
PACKAGE = ROOT / "airflow_zilliz"
#: What stands for a variable part, in the page and below.
VARIABLE = "…"
QUOTES = re.findall(r"^> `(.+)`$", PAGE, re.MULTILINE)
_LOG_ARGUMENT = re.compile(r"%(?:\.\d+)?[a-z]\b")


def texts(source: str) -> set[str]:
    """Return the texts of a module other than its docstrings, with a mark for each variable part."""
    found = set()
    tree = ast.parse(source)
    docstrings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if node in docstrings:
            continue
        if isinstance(node, ast.JoinedStr):
            parts = [str(part.value) if isinstance(part, ast.Constant) else VARIABLE for part in node.values]
            found.add("".join(parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(_LOG_ARGUMENT.sub(VARIABLE, node.value))
    return found


@pytest.fixture(scope="module")
def written() -> set[str]:
    """Return what the provider writes; the local server is none of it."""
    files = [path for path in PACKAGE.rglob("*.py") if PACKAGE / "local" not in path.parents]
    return set().union(*(texts(path.read_text()) for path in files))


def test_texts_have_a_mark_for_each_variable_part() -> None:
    source = 'raise E(f"Job {job!r} of " f"{where:>5} is lost")\nlog.info("retrying %s in %.0f s, 80 % done", a, b)'
    assert texts(f'"A docstring."\n{source}') == texts(source)
    assert texts(source) >= {"Job … of … is lost", "retrying … in … s, 80 % done"}


@pytest.mark.parametrize("quote", QUOTES)
def test_each_quoted_text_is_one_that_is_written(quote: str, written: set[str]) -> None:
    assert len(quote.replace(VARIABLE, "").strip()) >= 7, "too short to identify a text"
    assert any(quote in text for text in written)


def test_a_text_that_nobody_writes_is_found_out(written: set[str]) -> None:
    assert not any("The server does not like … at all" in text for text in written)


def test_each_symptom_quotes_a_text() -> None:
    symptoms = re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]
    assert len(symptoms) > 20
    assert not [symptom.partition("\n")[0] for symptom in symptoms if not re.search(r"^> `", symptom, re.MULTILINE)]
