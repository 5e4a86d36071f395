"""The mutants of a module: each is one small change of its syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
_LOG_METHODS = frozenset(("debug", "info", "warning", "error", "exception", "critical", "log"))
_TYPING_CALLS = frozenset(("cast", "TypeVar", "NewType", "ParamSpec", "getLogger"))


@dataclass(frozen=True)
class Mutant:
    """A module with one change.

    :param line: where, counted from 1
    :param kind: what was changed
    :param before: the changed lines as they are
    :param after: the same lines of the mutant
    :param text: the whole module
    """

    line: int
    kind: str
    before: str
    after: str
    text: str


def mutants_of(text: str, *, messages: bool = False) -> list[Mutant]:
    """Return all mutants of a module, in the order of its text; those that compile to the same tree are left out.

    :param messages: also change the text of errors and of the log
    """
    tree = ast.parse(text)
    finder = _Finder(messages=messages)
    finder.visit(tree)
    source, same = text.encode(), ast.dump(tree)
    found: dict[Any, Any] = {}
    offsets = _line_offsets(source)
    for node, kind, new in finder.changes:
        mutant = _apply(source, offsets, node, kind, new)
        try:
            differs = ast.dump(ast.parse(mutant.text)) != same
        except SyntaxError:
            continue
        if differs:
            found.setdefault(mutant.text, mutant)
    return sorted(found.values(), key=lambda mutant: mutant.line)


class _Finder(ast.NodeVisitor):
    """Collects changes: the node to be replaced, the kind, and the new code."""

    def __init__(self, *, messages: bool) -> None:
        self.changes: list[tuple[ast.expr | ast.stmt, str, str]] = []
        self._messages = messages
        self._texts_count = True

    def visit(self, node: ast.AST) -> None:
        for kind, new in self._changes_of(node):
            self.changes.append((node, kind, new))  # only expressions and statements change
        super().visit(node)

    # What holds no behaviour is not entered.

    def visit_Module(self, node: ast.Module) -> None:
        self._visit_body(node.body)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._visit_body(node.body)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for default in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
            self.visit(default)
        self._visit_body(node.body)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 - ast's name

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        if not any(isinstance(target, ast.Name) and target.id in ("__all__", "__slots__") for target in node.targets):
            self.visit(node.value)

    def visit_If(self, node: ast.If) -> None:
        if "TYPE_CHECKING" not in ast.dump(node.test):
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        pass

    visit_ImportFrom = visit_Import  # type: ignore[assignment] # noqa: N815 - ast's name, and the same for both

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        pass  # before Python 3.12 nothing inside has a position of its own

    def visit_Subscript(self, node: ast.Subscript) -> None:
        self.visit(node.value)
        self.visit(node.slice)

    def visit_Raise(self, node: ast.Raise) -> None:
        self._without_texts([child for child in (node.exc, node.cause) if child is not None and not _is_none(child)])

    def visit_Assert(self, node: ast.Assert) -> None:
        self.visit(node.test)

    def visit_Call(self, node: ast.Call) -> None:
        name = _called(node)
        if name in _TYPING_CALLS:
            return
        if _is_log(node) or name.endswith(("Error", "Exception")) or name.startswith("Zilliz"):
            self._without_texts([*node.args, *(keyword.value for keyword in node.keywords)])
        else:
            self.generic_visit(node)

    def _visit_body(self, body: list[ast.stmt]) -> None:
        for index, statement in enumerate(body):
            if not (index == 0 and _is_text(statement)):
                self.visit(statement)

    def _without_texts(self, nodes: Iterable[ast.AST]) -> None:
        before, self._texts_count = self._texts_count, self._messages
        for node in nodes:
            self.visit(node)
        self._texts_count = before

    def _changes_of(self, node: ast.AST) -> Iterator[tuple[str, str]]:
        if isinstance(node, ast.Compare):
            yield from _comparisons(node)
        elif isinstance(node, ast.BoolOp):
            yield from _and_or(node)
        elif isinstance(node, ast.UnaryOp) and not isinstance(node.op, ast.UAdd):
            yield "operator", f"({ast.unparse(node.operand)})"
        elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS and not _of_texts(node):
            op = _OPERATORS[type(node.op)]()
            yield "operator", f"({ast.unparse(ast.BinOp(node.left, op, node.right))})"
        elif isinstance(node, ast.Constant):
            yield from self._constants(node)
        elif isinstance(node, ast.stmt):
            yield from _statements(node, with_log=self._messages)
        if isinstance(node, (ast.If, ast.While, ast.IfExp)):
            self._negate(node.test)
        elif isinstance(node, ast.comprehension):
            for test in node.ifs:
                self._negate(test)

    def _negate(self, test: ast.expr) -> None:
        if not isinstance(test, ast.Compare) and "TYPE_CHECKING" not in ast.dump(test):
            self.changes.append((test, "condition", f"(not ({ast.unparse(test)}))"))

    def _constants(self, node: ast.Constant) -> Iterator[tuple[str, str]]:
        value = node.value
        if isinstance(value, bool):
            yield "constant", repr(not value)
        elif isinstance(value, (int, float)):
            yield "constant", f"({value + 1!r})"
            yield "constant", f"({value - 1!r})"
        elif isinstance(value, str) and self._texts_count:
            yield "constant", repr(value + "XX")
        elif isinstance(value, bytes):
            yield "constant", repr(value + b"XX")
        elif value is None:
            yield "constant", "1"


def _comparisons(node: ast.Compare) -> Iterator[tuple[str, str]]:
    for index, op in enumerate(node.ops):
        for other in _COMPARISONS[type(op)]:
            ops = [*node.ops[:index], other(), *node.ops[index + 1 :]]
            yield "comparison", f"({ast.unparse(ast.Compare(node.left, ops, node.comparators))})"


def _and_or(node: ast.BoolOp) -> Iterator[tuple[str, str]]:
    other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    yield "and/or", f"({ast.unparse(ast.BoolOp(other, node.values))})"
    for index in range(len(node.values)):
        left = [*node.values[:index], *node.values[index + 1 :]]
        yield "and/or", f"({ast.unparse(left[0] if len(left) == 1 else ast.BoolOp(node.op, left))})"


def _statements(node: ast.stmt, *, with_log: bool) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Return) and node.value is not None and not _is_none(node.value):
        yield "return value", "return None"
    elif isinstance(node, ast.Break):
        yield "statement", "continue"
    elif isinstance(node, ast.Continue):
        yield "statement", "break"
    elif isinstance(node, (ast.Raise, ast.AugAssign, ast.Delete)) or _sets_a_part(node):
        yield "statement", "pass"
    elif isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant):
        call = node.value.value if isinstance(node.value, ast.Await) else node.value
        if with_log or not (isinstance(call, ast.Call) and _is_log(call)):
            yield "statement", "pass"


def _apply(source: bytes, offsets: list[int], node: ast.expr | ast.stmt, kind: str, new: str) -> Mutant:
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    begin, end = offsets[node.lineno - 1] + node.col_offset, offsets[node.end_lineno - 1] + node.end_col_offset
    first, last = offsets[node.lineno - 1], source.find(b"\n", end)
    last = len(source) if last < 0 else last
    return Mutant(
        line=node.lineno,
        kind=kind,
        before=source[first:last].decode(),
        after=(source[first:begin] + new.encode() + source[end:last]).decode(),
        text=(source[:begin] + new.encode() + source[end:]).decode(),
    )


def _line_offsets(source: bytes) -> list[int]:
    offsets = [0]
    for line in source.splitlines(keepends=True):
        offsets.append(offsets[-1] + len(line))
    return offsets


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _is_log(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Attribute) and node.func.attr in _LOG_METHODS and "log" in ast.dump(node.func)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _sets_a_part(node: ast.stmt) -> bool:
    """Whether something of an object is set; a name that is never set would only be a NameError."""
    return isinstance(node, ast.Assign) and not any(isinstance(target, ast.Name) for target in node.targets)


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _of_texts(node: ast.BinOp) -> bool:
    """Whether the operands are texts or lists, where a minus would only be a TypeError."""
    return any(
        isinstance(side, (ast.JoinedStr, ast.List, ast.Tuple, ast.Dict, ast.Set))
        or (isinstance(side, ast.Constant) and isinstance(side.value, (str, bytes)))
        for side in (node.left, node.right)
    )
