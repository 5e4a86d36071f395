"""What waiting costs: this provider compared with the best peers, for 1 to 10,000 waits.

Each run has a server process of its own with Zilliz Cloud's limit (20 requests a second for each path) and a client
process of its own, in which only the waits count: see pollers.py. All jobs are waited for with an interval of 30 s;
they end evenly over 40 s, and a run is given up after 150 s. Each figure is the median of so many --runs. Prints a
table and, with --picture, draws it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
WAYS = {
    "ours": "this provider",
    "session": "(a) describe each, one session",
    "sessions": "(b) describe each, new sessions",
}
NUMBERS = (1, 100, 1_000, 10_000)
GOALS = {"requests": 50, "cpu": 15, "cpu of an end": 30, "bytes_a_wait": 20_000, "p99": 32.0, "requests of 100": 10}


def measure(way: str, waits: int) -> dict[str, Any]:
    """Run one way in a fresh process against a fresh server."""
    server = subprocess.Popen([sys.executable, HERE / "limited_server.py"], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        url = f"http://127.0.0.1:{server.stdout.readline().strip()}"
        with tempfile.TemporaryDirectory() as home:
            client = subprocess.run(
                [sys.executable, HERE / "pollers.py", way, url, str(waits)],
                env={**os.environ, "AIRFLOW_HOME": home},
                capture_output=True,
                text=True,
                check=False,
            )
    finally:
        server.terminate()
        server.wait()
    if client.returncode:
        raise SystemExit(f"{way} with {waits} waits failed:\n{client.stderr[-3000:]}")
    # Airflow logs to standard output as well
    result: dict[str, Any] = json.loads(next(line for line in client.stdout.splitlines() if line.startswith("{")))
    print(f"  done: {WAYS[way]}, {waits:,} waits", file=sys.stderr, flush=True)
    return result


def table(results: list[dict[str, Any]]) -> str:
    head = f"{'waits':>6}  {'':32}{'requests':>9}{'429s':>8}{'seen':>8}{'p50 s':>8}{'p99 s':>8}{'max s':>8}"
    lines = [head + f"{'CPU s':>8}{'ms an end':>11}{'KB a wait':>11}"]
    for result in sorted(results, key=lambda one: (one["waits"], list(WAYS).index(one["way"]))):
        delays = "".join(f"{result[name]:8.1f}" if result[name] is not None else f"{'-':>8}" for name in DELAYS)
        counts = f"{result['requests']:9,}{result['refused']:8,}{result['seen']:8,}"
        cost = f"{result['cpu']:8.2f}{cpu_of_an_end(result) * 1000:11.2f}{result['bytes_a_wait'] / 1000:11.1f}"
        lines.append(f"{result['waits']:6,}  {WAYS[result['way']]:32}{counts}{delays}{cost}")
    return "\n".join(lines)


DELAYS = ("p50", "p99", "max")


def cpu_of_an_end(result: dict[str, Any]) -> float:
    """Return the CPU seconds for each job's end that was seen."""
    return float(result["cpu"] / max(1, result["seen"]))


def medians(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the runs of each way and number as one, with the median of each figure."""
    by: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for result in results:
        by.setdefault((result["way"], result["waits"]), []).append(result)
    return [
        {
            name: value if name in ("way", "waits") or value is None else _median(runs, name)
            for name, value in runs[0].items()
        }
        for runs in by.values()
    ]


def _median(runs: list[dict[str, Any]], name: str) -> Any:
    values = sorted(run[name] for run in runs if run[name] is not None)
    middle = statistics.median(values)
    return round(middle) if isinstance(values[0], int) else middle


def verdicts(results: list[dict[str, Any]]) -> list[tuple[bool, str]]:
    """Return what was aimed at, and whether it held in this run."""
    by = {(one["way"], one["waits"]): one for one in results}
    found = []
    if ("session", 10_000) in by:
        ours, peer = by["ours", 10_000], by["session", 10_000]
        for name, word in (("requests", "requests"), ("cpu", "CPU")):
            ratio = peer[name] / ours[name]
            found.append((ratio >= GOALS[name], f"10,000 waits: {ratio:.0f} times less {word} (aim: {GOALS[name]})"))
        # one request for each wait has seen few of the ends when it is given up
        ratio = cpu_of_an_end(peer) / cpu_of_an_end(ours)
        text = f"10,000 waits: {ratio:.0f} times less CPU for each end that was seen (aim: {GOALS['cpu of an end']})"
        found.append((ratio >= GOALS["cpu of an end"], text))
        found.append((ours["refused"] == 0, f"10,000 waits: {ours['refused']} responses with 429"))
        found.append((ours["seen"] == 10_000 and ours["p99"] <= GOALS["p99"], f"10,000 waits: p99 {ours['p99']:.1f} s"))
        size = ours["bytes_a_wait"]
        found.append((size < GOALS["bytes_a_wait"], f"10,000 waits: {size / 1000:.1f} KB a wait (aim: below 20)"))
    ours, peer = by["ours", 100], by["session", 100]
    ratio = peer["requests"] / ours["requests"]
    better = ours["p99"] <= peer["p99"]
    found.append(
        (ratio >= GOALS["requests of 100"] and better, f"100 waits: {ratio:.0f} times fewer requests (aim: 10)")
    )
    ours = by["ours", 1]
    found.append((ours["describes"] == ours["requests"], "1 wait: one description for each poll"))
    return found


def draw(results: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4))
    for axis, name, title in ((axes[0], "requests", "requests sent"), (axes[1], "cpu", "CPU seconds")):
        for (way, label), mark in zip(WAYS.items(), "os^", strict=True):
            points = sorted((one["waits"], one[name]) for one in results if one["way"] == way)
            axis.plot(*zip(*points, strict=True), marker=mark, label=label)
        axis.set(xscale="log", yscale="log", xlabel="waits", title=title)
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.suptitle("Jobs that end over 40 s, interval 30 s, given up after 150 s; server limit 20 requests/s")
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--waits", type=int, nargs="*", default=NUMBERS, help="how many waits, each a run")
    parser.add_argument("--runs", type=int, default=3, help="how many of each, whose median counts")
    parser.add_argument("--picture", type=Path, help="draw requests and CPU seconds over the number of waits")
    arguments = parser.parse_args()
    small = [(way, number) for number in arguments.waits if number <= 1_000 for way in WAYS]
    results: list[Any] = []
    for _ in range(arguments.runs):
        with ThreadPoolExecutor(max(1, len(small))) as pool:
            results += pool.map(lambda run: measure(*run), small)
        # so many waits want a core for themselves
        results += [measure(way, number) for number in arguments.waits if number > 1_000 for way in WAYS]
    results = medians(results)
    print(table(results))
    if arguments.picture:
        draw(results, arguments.picture)
    if not {1, 100} <= {*arguments.waits}:
        return 0
    held = verdicts(results)
    print("\n".join(f"{'held' if good else 'MISSED'}  {text}" for good, text in held))
    return 0 if all(good for good, _ in held) else 1


if __name__ == "__main__":
    raise SystemExit(main())
