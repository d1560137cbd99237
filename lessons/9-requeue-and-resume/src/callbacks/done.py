"""Mark a finished training with DONE.json: see src/main.py."""

import json
import math
import os
from pathlib import Path

import lightning as L

from src.utils.attempts import update_attempt
from src.utils.errors import UserError


class CleanStart(L.Callback):
    """Refuses to start where Lightning's own requeueing has left a checkpoint."""

    def setup(self, trainer, pl_module, stage):
        if stage != "fit":
            return
        for file in sorted(Path(trainer.default_root_dir).glob("hpc_ckpt_*.ckpt")):
            found = f"{file.absolute()} is left over from an interrupted job"
            raise UserError(f"{found}; Lightning would resume from it: move or delete it")


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
            "epochs": trainer.max_epochs,
            "steps": trainer.global_step,
            **metrics,
            "checkpoint": os.path.relpath(best, folder) if best else None,
        }
        update_attempt(Path(folder), ended="finished", to_step=trainer.global_step)
        part = Path(folder, ".DONE.json")
        part.write_text(json.dumps(done, indent=4) + "\n")
        part.replace(part.with_name("DONE.json"))  # atomic: the whole file or none
    return folder
