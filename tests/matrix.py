"""Runs the tests on every supported Airflow, each with every Python of this machine that it supports.

`make test-all` runs it. Each pair has an environment of its own below ``.venvs``, its packages pinned as of the time of
that Airflow. Afterwards the README's table says what was run, and how it went; a pair that was not run, since --only
named others, keeps what the table said of it for as long as it is of the same release.

`make test-pages` runs the browser's tests with those Airflows that have pages and are not the one of this environment,
which has the browser's driver.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from dev.demo import say

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
BEGIN, END = "<!-- matrix -->\n", "<!-- /matrix -->"

#: What is run everywhere. The rest of tests/contract is about the local server's Milvus and the README, not Airflow.
EVERYWHERE = ("tests/unit", "tests/airflow", "tests/contract/test_hook.py", "tests/contract/test_hostile.py")
PAGES = "tests/e2e/test_progress_page.py"
PYTHONS = ("3.10", "3.11", "3.12", "3.13")


@dataclass(frozen=True)
class Release:
    """An Airflow to test on.

    :param has_pages: whether `make test-pages` opens its pages
    """

    series: str
    pins: tuple[str, ...]
    pythons: tuple[str, ...] = PYTHONS
    tests: tuple[str, ...] = EVERYWHERE
    has_pages: bool = False

    @property
    def version(self) -> str:
        """The release itself, as pinned."""
        text = (ROOT / self.pins[0]).read_text()
        found = re.search(r"^apache-airflow==([\d.]+)", text, re.MULTILINE)
        assert found is not None
        return found[1]


RELEASES = (
    Release(
        "3.3",
        ("requirements/demo.txt", "requirements/dev.txt"),
        tests=("tests/unit", "tests/airflow", "tests/contract"),
    ),
    Release("3.2", ("requirements/airflow-3.2.txt",), has_pages=True),
    Release("3.1", ("requirements/airflow-3.1.txt",), has_pages=True),
    Release("3.0", ("requirements/airflow-3.0.txt",), PYTHONS[:3]),
    Release("2.11", ("requirements/airflow-2.11.txt",), PYTHONS[:3]),
)


@dataclass(frozen=True)
class Result:
    """How the tests went on a pair."""

    passed: int
    skipped: int
    failed: int
    seconds: float

    @property
    def is_good(self) -> bool:
        """Whether there were tests and none of them failed."""
        return self.passed > 0 and not self.failed


def main() -> int:
    """Run the matrix; 0 only if all of it passed."""
    arguments = argparse.ArgumentParser(prog="python tests/matrix.py", description=__doc__)
    arguments.add_argument("--only", action="append", help="an Airflow series or a pair, such as 3.1 or 3.1-py3.12")
    arguments.add_argument("--install", action="store_true", help="make the environments, and run nothing")
    arguments.add_argument("--pages", action="store_true", help="run the browser's tests alone, on this Python")
    arguments.add_argument("--table", action="store_true", help="write the table of the last runs, and run nothing")
    arguments.add_argument("-n", "--processes", default="4", help="how many tests at once; most of them wait")
    options = arguments.parse_args()
    if options.table:
        write_table(last_results())
        return 0
    if options.pages:
        return show_pages()
    found = {name: path for name in PYTHONS if (path := interpreter(name))}
    say(f"Pythons here: {', '.join(found)}")
    results: dict[tuple[str, str], Result] = {}
    for release in RELEASES:
        for python in release.pythons:
            if python not in found or not is_wanted(release.series, python, options.only):
                continue
            environment = install(release, python, found[python])
            if not options.install:
                result = run(release, python, environment, options.processes)
                results[release.series, python] = result
                say(f"Airflow {release.version}, Python {python}: {in_words(result)}")
    if options.install:
        return 0
    if not results:
        say(f"Nothing was run: no Python here is of {' or '.join(options.only or ['any pair'])}")
        return 1
    write_table(results)
    return 0 if all(result.is_good for result in results.values()) else 1


def show_pages() -> int:
    """Run the browser's tests with each Airflow, all at once since they mostly wait; 0 only if they pass."""
    python = "{}.{}".format(*sys.version_info)

    def shown(release: Release) -> bool:
        airflow = install(release, python, sys.executable)
        log = home_of(release, python) / "pages.log"
        result = call_pytest(sys.executable, [PAGES], log, {"ZILLIZ_AIRFLOW": str(airflow)})
        say(f"The pages of Airflow {release.version}: {in_words(result)}")
        if not result.is_good:
            print(log.read_text(errors="replace"))
        return not result.failed and result.passed + result.skipped > 0

    releases = [release for release in RELEASES if release.has_pages]
    with ThreadPoolExecutor(len(releases)) as pool:
        return 0 if all(list(pool.map(shown, releases))) else 1


def is_wanted(series: str, python: str, only: list[str] | None) -> bool:
    """Whether a pair was asked for."""
    return not only or series in only or f"{series}-py{python}" in only


def interpreter(python: str) -> str | None:
    """Return a Python of a minor version that can make environments; also one of pyenv."""
    homes = sorted((Path.home() / ".pyenv" / "versions").glob(f"{python}.*"))
    for command in (f"python{python}", *(str(home / "bin" / "python") for home in reversed(homes))):
        try:
            check = f"import sys, venv, ensurepip; sys.exit('%d.%d' % sys.version_info[:2] != '{python}')"
            if subprocess.run([command, "-c", check], capture_output=True, check=False).returncode == 0:
                return command
        except OSError:
            continue
    return None


def home_of(release: Release, python: str) -> Path:
    """Return the folder of a pair's environment, log and report."""
    return ROOT / ".venvs" / f"{release.series}-py{python}"


def last_results() -> dict[tuple[str, str], Result]:
    """Return how the tests went when each pair was run last."""
    reports = {(r.series, python): home_of(r, python) / "tests.xml" for r in RELEASES for python in r.pythons}
    return {pair: read(report, 0) for pair, report in reports.items() if report.exists()}


def install(release: Release, python: str, command: str) -> Path:
    """Make a pair's environment, unless it is there and newer than its pins; return its interpreter."""
    home = home_of(release, python)
    stamp = home / ".ready"
    sources = [ROOT / name for name in (*release.pins, "pyproject.toml")]
    if stamp.exists() and all(stamp.stat().st_mtime > source.stat().st_mtime for source in sources):
        return home / "bin" / "python"
    say(f"Airflow {release.version}, Python {python}: installing")
    subprocess.run([command, "-m", "venv", "--clear", str(home)], check=True)
    pip = [str(home / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet", "--no-input", "install"]
    for pins in release.pins:
        subprocess.run([*pip, "--no-deps", "-r", str(ROOT / pins)], check=True)
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "-e", str(ROOT)], check=True)
    stamp.touch()
    return home / "bin" / "python"


def run(release: Release, python: str, command: Path, processes: str) -> Result:
    """Run a pair's tests; their output is in a log beside its environment."""
    log = home_of(release, python) / "tests.log"
    return call_pytest(command, ["-n", processes, "--dist", "loadgroup", *release.tests], log)


def call_pytest(
    python: str | Path, arguments: list[str], log: Path, variables: Mapping[str, str] | None = None
) -> Result:
    """Run tests, with their output in a log and what became of them in a report beside it."""
    report = log.with_suffix(".xml")
    report.unlink(missing_ok=True)
    began = time.monotonic()
    with log.open("w") as output:
        subprocess.run(
            [str(python), "-m", "pytest", f"--junitxml={report}", "-p", "no:cacheprovider", *arguments],
            cwd=ROOT,
            env={**os.environ, **(variables or {})},
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    took = time.monotonic() - began
    if not report.exists():
        say(f"No test ran, see {log}")
        return Result(0, 0, 1, took)
    return read(report, took)


def read(report: Path, took: float) -> Result:
    """Read a JUnit report."""
    suites = ElementTree.parse(report).getroot().iter("testsuite")
    counts = [
        {name: int(suite.get(name, 0)) for name in ("tests", "skipped", "failures", "errors")} for suite in suites
    ]
    total = {name: sum(count[name] for count in counts) for name in ("tests", "skipped", "failures", "errors")}
    failed = total["failures"] + total["errors"]
    return Result(total["tests"] - total["skipped"] - failed, total["skipped"], failed, took)


def in_words(result: Result) -> str:
    """Say how it went."""
    failed = f", {result.failed} FAILED" if not result.is_good else ""
    return f"{result.passed} tests passed, {result.skipped} skipped{failed}, in {result.seconds:.0f} s"


def table(results: dict[tuple[str, str], Result], before: str) -> str:
    """Return the README's table of what was run, and of what the table before says was."""
    rows = {row[0]: row[1:] for line in before.splitlines() if (row := line.strip("| ").split(" | "))}
    lines = ["| Airflow | " + " | ".join(f"Python {python}" for python in PYTHONS) + " |", "|---" * 5 + "|"]
    for release in RELEASES:
        known = dict(zip(PYTHONS, rows.get(release.version, ()), strict=False))
        cells = [
            cell(release, python, results.get((release.series, python)), known.get(python, "not run"))
            for python in PYTHONS
        ]
        lines.append(f"| {release.version} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def cell(release: Release, python: str, result: Result | None, before: str) -> str:
    """Return one pair's cell."""
    if python not in release.pythons:
        return "no"
    if result is None:
        return before
    return (
        f"{result.passed:,} tests" if result.is_good else f"**{result.failed} of {result.passed + result.failed} fail**"
    )


def write_table(results: dict[tuple[str, str], Result]) -> None:
    """Put the table in its place in the README."""
    text = README.read_text()
    before, rest = text.split(BEGIN)
    end = rest.index(END)
    README.write_text(before + BEGIN + table(results, rest[:end]) + rest[end:])
    say(f"The table is in {README.name}")


if __name__ == "__main__":
    sys.exit(main())
