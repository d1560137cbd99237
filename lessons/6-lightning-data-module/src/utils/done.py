"""Leave a file behind that only a training to its end has: see src/main.py."""

import json
from pathlib import Path


def write_done(trainer, metrics):
    """Write steps and metrics into DONE.json in the log folder; return that folder, or None."""
    if trainer.is_global_zero and trainer.log_dir:
        done = {"steps": trainer.global_step, **metrics}
        part = Path(trainer.log_dir, ".DONE.json")
        part.write_text(json.dumps(done, indent=4) + "\n")
        part.replace(part.with_name("DONE.json"))  # the whole file or none
    return trainer.log_dir
