"""What the operating guide advises for a triggerer of many triggers, of whatever provider.

The process that runs triggers is forked from the triggerer once all is imported. Freezing what there is by then spares
its event loop the search of Airflow's whole heap for garbage, time and again.
"""

import gc
import os
import sys

if "triggerer" in sys.argv:
    os.register_at_fork(after_in_child=gc.freeze)
