"""Writes each long pause for garbage of a triggerer into GC_LOG: Airflow takes such a pause for a blocked loop."""

import gc
import os
import sys
import time
from pathlib import Path

_LONG = 0.03

if "GC_LOG" in os.environ and "triggerer" in sys.orig_argv:
    _began = 0.0

    def _watch(phase: str, info: dict[str, int]) -> None:
        global _began
        if phase == "start":
            _began = time.perf_counter()
        elif (seconds := time.perf_counter() - _began) > _LONG:
            with Path(os.environ["GC_LOG"]).open("a") as log:
                log.write(f"{time.time()} {seconds} {len(gc.get_objects())}\n")

    gc.callbacks.append(_watch)
