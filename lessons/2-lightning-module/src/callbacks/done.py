"""Mark a finished training with DONE.json: see src/main.py."""

import json
import math
from pathlib import Path

import lightning as L

from src.utils.errors import UserError


class CleanStart(L.Callback):
    """Makes every training begin at epoch 1, regardless of files from earlier attempts."""

    def setup(self, trainer, pl_module, stage):
        if stage != "fit":
            return
        for file in sorted(Path(trainer.default_root_dir).glob("hpc_ckpt_*.ckpt")):
            found = f"{file.absolute()} is left over from an interrupted job"
            raise UserError(f"{found}; Lightning would resume from it: move or delete it")
        folder = trainer.log_dir
        if trainer.is_global_zero and folder:
            Path(folder, "DONE.json").unlink(missing_ok=True)


class StopIfDiverged(L.Callback):
    """Ends the training after the first epoch whose validation loss is nan or infinite."""

    def on_train_epoch_start(self, trainer, pl_module):
        loss = trainer.callback_metrics.get("val_loss")  # of the epoch before
        if loss is not None:
            check_finite({"val_loss": loss.item()})


def check_finite(metrics):
    if not all(map(math.isfinite, metrics.values())):
        raise UserError(f"the training has diverged, {metrics}: lower the learning rate")


def write_done(trainer, metrics):
    """Write steps and metrics to DONE.json in the log folder; return that folder, or None.

    Raises UserError if a metric is nan or infinite.
    """
    check_finite(metrics)
    folder = trainer.log_dir  # a collective call: rank 0 broadcasts the folder
    if trainer.is_global_zero and folder:
        done = {"steps": trainer.global_step, **metrics}
        part = Path(folder, ".DONE.json")
        part.write_text(json.dumps(done, indent=4) + "\n")
        part.replace(part.with_name("DONE.json"))  # atomic: the whole file or none
    return folder
