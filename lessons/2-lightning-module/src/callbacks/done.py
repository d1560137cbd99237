"""Mark a finished training with DONE.json: see src/main.py."""

import json
import logging
import math
import os
from pathlib import Path

import lightning as L

from src.utils.errors import UserError

log = logging.getLogger(__name__)
# what a training writes into its log folder, except for the curves
RESULTS = ("checkpoints", "hparams.yaml", "DONE.json")


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
            set_aside(Path(folder))


def set_aside(folder):
    """Move the results of an earlier training in the same folder into a subfolder."""
    results = [folder / name for name in RESULTS if (folder / name).exists()]
    if results:
        aside = folder / f"earlier_{len(list(folder.glob('earlier_*'))) + 1}"
        aside.mkdir()
        for path in results:
            path.rename(aside / path.name)
        log.warning(f"{folder} has results of an earlier training: moved to {aside.name}")


class StopIfDiverged(L.Callback):
    """Ends the training after the first epoch whose validation loss is nan or infinite."""

    def on_train_epoch_start(self, trainer, pl_module):
        loss = trainer.callback_metrics.get("val_loss")  # of the epoch before
        if loss is not None:
            check_finite({"val_loss": loss.item()})


class EndAtCtrlC(L.Callback):
    """Lets Ctrl-C end a training at once.

    If it arrives while a value is handed to the thread that writes TensorBoard's file, the thread
    does not notice the value, and Lightning waits for it up to 120 s; one more value wakes it.
    """

    def on_exception(self, trainer, pl_module, exception):
        if isinstance(exception, KeyboardInterrupt) and trainer.logger:
            trainer.logger.log_metrics({"epoch": trainer.current_epoch}, trainer.global_step)


def check_finite(metrics):
    if not all(map(math.isfinite, metrics.values())):
        raise UserError(f"the training has diverged, {metrics}: lower the learning rate")


def write_done(trainer, metrics):
    """Write steps, metrics and the best checkpoint to DONE.json in the log folder.

    Returns the log folder, or None.

    Raises UserError if a metric is nan or infinite.
    """
    check_finite(metrics)
    folder = trainer.log_dir  # a collective call: rank 0 broadcasts the folder
    if trainer.is_global_zero and folder:
        best = getattr(trainer.checkpoint_callback, "best_model_path", "")
        done = {
            "steps": trainer.global_step,
            **metrics,
            "checkpoint": os.path.relpath(best, folder) if best else None,
        }
        part = Path(folder, ".DONE.json")
        part.write_text(json.dumps(done, indent=4) + "\n")
        part.replace(part.with_name("DONE.json"))  # atomic: the whole file or none
    return folder
