from __future__ import annotations

import pytest

from tests.mutants import mutants_of


@pytest.mark.parametrize(
    ("code", "after"),
    [
        ("x = a < b", {"x = (a <= b)", "x = (a >= b)"}),
        ("x = a is not None", {"x = (a is None)", "x = a is not 1"}),
        ("x = a < b == c", {"x = (a <= b == c)", "x = (a >= b == c)", "x = (a < b != c)"}),
        ("x = a and b", {"x = (a or b)", "x = (a)", "x = (b)"}),
        ("x = not a", {"x = (a)"}),
        ("x = a - b", {"x = (a + b)"}),
        ("x = 3", {"x = (4)", "x = (2)"}),
        ("x = True", {"x = False"}),
        ("x = 'a'", {"x = 'aXX'"}),
        ("if a: b()", {"if (not (a)): b()", "if a: pass"}),
        ("x = [a for a in b if a]", {"x = [a for a in b if (not (a))]"}),
        (
            "def f(a: int = 1) -> 'str': return a",
            {
                "def f(a: int = (2)) -> 'str': return a",
                "def f(a: int = (0)) -> 'str': return a",
                "def f(a: int = 1) -> 'str': return None",
            },
        ),
        ("while a: break", {"while (not (a)): break", "while a: continue"}),
        ("a.b = c", {"pass"}),
        ("a += b", {"pass"}),
        ("raise a", {"pass"}),
        ("x = 'ö' + f(True)", {"x = 'öXX' + f(True)", "x = 'ö' + f(False)"}),
    ],
)
def test_each_kind_of_change(code: str, after: set[str]) -> None:
    assert {mutant.text for mutant in mutants_of(code)} == after


@pytest.mark.parametrize(
    "code",
    [
        "'''What it does.'''",
        "def f():\n    '''What it does.'''\n    pass",
        "x: 'int | None'",
        "__all__ = ['a']",
        "raise ValueError('no') from None",
        "log.info('text %s', a)",
        "if TYPE_CHECKING:\n    x = 1",
        "from a import b",
        "T = TypeVar('T')",
    ],
)
def test_what_no_test_can_notice_is_left_alone(code: str) -> None:
    assert [mutant.text for mutant in mutants_of(code) if mutant.text != "pass"] == []


def test_the_texts_of_errors_and_of_the_log_on_request() -> None:
    assert {mutant.after for mutant in mutants_of("log.info('text')", messages=True)} == {"log.info('textXX')", "pass"}
