"""Leave a file behind that only a training to its end has: see src/main.py."""

import json
import math
from pathlib import Path


def write_done(trainer, metrics):
    """Write steps and metrics into DONE.json in the log folder; return that folder, or None.

    Raises:
        SystemExit: with one sentence, if a metric is nan or infinite.
    """
    if not all(map(math.isfinite, metrics.values())):
        raise SystemExit(f"the training has diverged, {metrics}: lower the learning rate")
    folder = trainer.log_dir  # every process must ask for it, and once: process 0 tells the others
    if trainer.is_global_zero and folder:
        done = {"steps": trainer.global_step, **metrics}
        part = Path(folder, ".DONE.json")
        part.write_text(json.dumps(done, indent=4) + "\n")
        part.replace(part.with_name("DONE.json"))  # the whole file or none
    return folder
