"""Samples mutants of a module and reports which ones its tests miss. Needs an operating system with fork.

mutmut 3 changes functions alone, drops no statements, and runs all of a module's mutants; hence a tool of our own.
Each mutant lies in a copy of the tree, so the work tree is never touched. Airflow and the rest are imported once, and
each mutant's tests run in a fork of that process.

    python tests/mutation.py airflow_zilliz/_submit/record.py tests/unit/submit/test_record.py --count 100 -j 2
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[0] = str(REPOSITORY)  # and not tests/, whose modules are to be found as tests.x alone

from tests.mutants import Mutant, mutants_of  # noqa: E402 - found by the line above

#: What must be imported again for each mutant, and what does not survive a fork.
_OURS = ("airflow_zilliz", "tests")
_NOT_WARM = (*_OURS, "grpc", "pymilvus", "milvus_lite", "conftest", "__main__", "__mp_main__")
_MEMORY_BYTES = 6 * 2**30
_PYTEST_CODES = {1: "tests failed", 2: "not importable", 3: "pytest broke", 4: "not importable"}


@dataclass(frozen=True)
class Result:
    """How the tests of one tree ended.

    :param code: the exit code of pytest, None for a time-out, negative for a signal
    """

    code: int | None
    seconds: float
    output: str

    @property
    def killed(self) -> str | None:
        """What stopped the mutant, None where nothing did."""
        if self.code is None:
            return "timed out"
        return None if self.code == 0 else _PYTEST_CODES.get(self.code, f"exit {self.code}")


def main() -> int:
    """Run the tool; the exit code is 1 where fewer mutants than ``--at-least`` are killed."""
    args = _arguments()
    module = (REPOSITORY / args.module).resolve().relative_to(REPOSITORY)
    everything = mutants_of((REPOSITORY / module).read_text(), messages=args.messages)
    wanted = [mutant for mutant in everything if args.line is None or mutant.line in args.line]
    chosen = random.Random(args.seed).sample(wanted, min(args.count, len(wanted)))
    if args.list:
        for mutant in wanted:
            _show(mutant)
        return 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as place:
        trees = [_copy(Path(place) / str(number)) for number in range(args.jobs)]
        pytest_arguments = ["-x", "-q", "--no-header", "-p", "no:cacheprovider", "-p", "no:xdist", *args.tests]
        baseline = _baseline(trees[0], module, pytest_arguments, args)
        timeout = args.timeout or max(10.0, 5 * baseline.seconds)
        print(
            f"{module}: {len(chosen)} of {len(everything)} mutants (seed {args.seed}), tests of "
            f"{baseline.seconds:.1f} s each, at most {timeout:.0f} s",
            flush=True,
        )
        began = time.monotonic()
        killed = _run_all(chosen, trees, module, pytest_arguments, timeout, verbose=args.verbose)
    share = 100 * killed / len(chosen) if chosen else 100.0
    print(f"{killed} of {len(chosen)} killed ({share:.0f} %) in {time.monotonic() - began:.0f} s")
    return int(share < args.at_least)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module", help="path of the module to change")
    parser.add_argument("tests", nargs="*", default=["tests/unit"], help="what pytest runs; options of it after --")
    parser.add_argument("-n", "--count", type=int, default=100, help="how many mutants (default 100)")
    parser.add_argument("--seed", type=int, default=0, help="which ones (default 0)")
    parser.add_argument("-j", "--jobs", type=int, default=1, help="how many at a time (default 1)")
    parser.add_argument("--timeout", type=float, help="seconds for one (default: 5 times the tests' own, at least 10)")
    parser.add_argument("--at-least", type=float, default=0.0, help="fail below this percentage killed")
    parser.add_argument("--messages", action="store_true", help="change the text of errors and of the log, too")
    parser.add_argument(
        "--cold", action="store_true", help="import Airflow again for each: tests that use its database"
    )
    parser.add_argument("--line", type=int, action="append", help="only mutants of this line; may be repeated")
    parser.add_argument("--list", action="store_true", help="show the mutants and run nothing")
    parser.add_argument("-v", "--verbose", action="store_true", help="show the killed ones as well")
    return parser.parse_args()


def _copy(tree: Path) -> Path:
    """Return a copy of what Git knows or would take, as it lies in the work tree."""
    git = ["git", "-C", str(REPOSITORY), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in filter(None, subprocess.run(git, check=True, capture_output=True).stdout.decode().split("\0")):
        if (REPOSITORY / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, tree / name)
    return tree


def _baseline(tree: Path, module: Path, pytest_arguments: list[str], args: argparse.Namespace) -> Result:
    """Run the tests on the module as it is: once for what they import, and once warm for how long it takes."""
    found = tree.parent / "imported.json"

    def and_report(code: int) -> None:
        names = [name for name in sys.modules if name.split(".")[0] not in _NOT_WARM]
        file = getattr(sys.modules.get(".".join(module.with_suffix("").parts)), "__file__", None)
        found.write_text(json.dumps({"names": names, "file": file}))

    first = _finish(_fork(tree, pytest_arguments, and_report), 600.0)
    if first.code != 0:
        sys.exit(f"The tests fail without any mutant (pytest's exit code {first.code}):\n{first.output}")
    report = json.loads(found.read_text())
    if report["file"] != str(tree / module):
        sys.exit(f"The tests did not import {module} from its copy but {report['file']}: its mutants would all survive")
    _warm(report["names"], tree, cold=args.cold)
    return _finish(_fork(tree, pytest_arguments), 600.0)


def _warm(names: list[str], tree: Path, *, cold: bool) -> None:
    os.environ["AIRFLOW_HOME"] = str(tree.parent / "airflow-home")
    sys.dont_write_bytecode = True
    for name in names:
        if not (cold and name.split(".")[0] == "airflow"):
            with suppress(Exception):  # what cannot be imported by itself will be by the tests
                importlib.import_module(name)
    sys.dont_write_bytecode = False


@dataclass
class _Running:
    pid: int
    output: Path
    began: float
    tree: Path
    mutant: Mutant | None = None


def _fork(tree: Path, pytest_arguments: list[str], then: Callable[[int], None] = lambda _: None) -> _Running:
    output = tree.parent / f"{tree.name}.out"
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return _Running(pid, output, time.monotonic(), tree)
    code = 3
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
        _enter(tree, output)
        import pytest

        code = int(pytest.main(pytest_arguments))
        then(code)
    finally:
        sys.stdout.flush()
        os._exit(code)
    raise AssertionError("the child has ended above")


def _enter(tree: Path, output: Path) -> None:
    """Let everything that this process imports or starts come from a tree, and write what it says to a file."""
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    os.chdir(tree)
    temporary = tree.parent / f"{tree.name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    os.environ |= {"PYTHONPATH": str(tree), "TMPDIR": str(temporary)}
    tempfile.tempdir = str(temporary)
    sys.path[0] = str(tree)
    for name in [name for name in sys.modules if name.split(".")[0] in _OURS]:
        del sys.modules[name]
    importlib.invalidate_caches()


def _finish(running: _Running, timeout: float) -> Result:
    while (result := _poll(running, timeout)) is None:
        time.sleep(0.02)
    return result


def _poll(running: _Running, timeout: float) -> Result | None:
    pid, status = os.waitpid(running.pid, os.WNOHANG)
    seconds = time.monotonic() - running.began
    timed_out = pid == 0 and seconds > timeout
    if pid == 0 and not timed_out:
        return None
    with suppress(ProcessLookupError, PermissionError):  # also what the tests have started and left
        os.killpg(running.pid, signal.SIGKILL)
    if timed_out:
        os.waitpid(running.pid, 0)
    output = running.output.read_text(errors="replace") if running.output.exists() else ""
    return Result(None if timed_out else os.waitstatus_to_exitcode(status), seconds, output)


def _run_all(
    chosen: Sequence[Mutant],
    trees: list[Path],
    module: Path,
    pytest_arguments: list[str],
    timeout: float,
    *,
    verbose: bool,
) -> int:
    killed = 0
    for mutant, result in _results(chosen, trees, module, pytest_arguments, timeout):
        killed += result.killed is not None
        if result.killed is None or verbose:
            _show(mutant, f"{result.killed or 'SURVIVED'} after {result.seconds:.1f} s")
    return killed


def _results(
    chosen: Sequence[Mutant], trees: list[Path], module: Path, pytest_arguments: list[str], timeout: float
) -> Iterator[tuple[Mutant, Result]]:
    left, free, running = list(reversed(chosen)), list(trees), list[_Running]()
    try:
        while left or running:
            while left and free:
                tree, mutant = free.pop(), left.pop()
                _write(tree / module, mutant.text)
                running.append(_fork(tree, pytest_arguments))
                running[-1].mutant = mutant
            for one in list(running):
                if (result := _poll(one, timeout)) is not None:
                    running.remove(one)
                    free.append(one.tree)
                    assert one.mutant is not None
                    yield one.mutant, result
            time.sleep(0.02)
    finally:
        for one in running:
            with suppress(ProcessLookupError):
                os.killpg(one.pid, signal.SIGKILL)


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    # a compiled file that is as old to the second, and as long, would be taken for this one's
    for compiled in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
        compiled.unlink()


def _show(mutant: Mutant, what: Any = "") -> None:
    before, after = mutant.before.splitlines(), mutant.after.splitlines()
    print(f"\nline {mutant.line}, {mutant.kind}: {what}")
    for sign, lines in (("-", before), ("+", after)):
        for line in lines:
            print(f"  {sign} {line}")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
