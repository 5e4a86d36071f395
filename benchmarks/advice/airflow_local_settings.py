"""What docs/scaling.md recommends for a triggerer with many triggers, of whatever provider.

The process that runs triggers is forked from the triggerer once everything is imported. Freezing the objects that exist
by then keeps its event loop from being blocked while Python searches Airflow's whole heap for garbage.
"""

import gc
import os
import sys

if "triggerer" in sys.argv:
    os.register_at_fork(after_in_child=gc.freeze)
