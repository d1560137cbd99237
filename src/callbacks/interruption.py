"""Save checkpoints, and stop in time for Slurm to start the job again: see src/main.py."""

import logging
import os
import signal
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint

from src.utils import slurm, stop_signal
from src.utils.attempts import begin_attempt, lead_seconds, read_attempts, update_attempt
from src.utils.checkpoints import LAST
from src.utils.errors import UserError

log = logging.getLogger(__name__)
# why a training stops; with several reasons, the one with the highest number counts
NO_REASON, TIME_LIMIT, SIGNAL, CTRL_C = range(4)
LOOK_SECONDS = 1.0  # how often the ranks ask each other
END_SECONDS = 120  # how long Slurm may take to end a requeued job


class Interruption(Checkpoint):
    """Saves last.ckpt after each epoch, every few minutes, and when the training must stop.

    A signal may reach only one rank, at any moment. It is noted (src/utils/stop_signal.py); between
    two batches, where all ranks are at the same place, they agree whether to stop. Then all of them
    save together, and rank 0 puts the job back into the queue.
    """

    def __init__(
        self, folder: Path, first_step: int, checkpoint_min: float, max_requeues: int
    ) -> None:
        self.folder = folder
        self.first_step = first_step  # of this attempt
        self.checkpoint_min = checkpoint_min
        self.max_requeues = max_requeues
        self.batches = self.looked_at = 0  # number of batches: now, and at the last look
        self.next_look = 1
        self.attempt = 0  # its number, on rank 0
        self.saved = self.looked = time.monotonic()
        self.limit = self.end_time = self.stop_time = float("inf")  # on rank 0, as Slurm says

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage == "fit" and trainer.is_global_zero:
            self.attempt = begin_attempt(self.folder, self.first_step)
            self.limit, left = slurm.time_limit()
            self.end_time = time.monotonic() + left
            self.choose_stop_time()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.saved = self.looked = time.monotonic()
        signal.signal(signal.SIGINT, stop_signal.note)

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if not trainer.fit_loop._should_accumulate():  # otherwise gradients would be lost
            self.look(trainer)

    def on_validation_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if not trainer.sanity_checking:
            self.look(trainer)

    def on_test_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self.look(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.save(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # PyTorch's raises if a worker ends meanwhile
        attempts = read_attempts(self.folder)
        is_own = trainer.is_global_zero and len(attempts) == self.attempt + 1
        if is_own and attempts[-1]["ended"] is None:
            reason = str(exception).strip().partition("\n")[0]
            self.end(f"{type(exception).__name__}: {reason:.200}")

    # --- between two batches

    def look_soon(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look after the next batch, and measure from here how long batches take."""
        self.looked, self.looked_at = time.monotonic(), self.batches
        self.next_look = self.batches + 1

    # the batches of a training, a validation and a test take different times
    on_train_epoch_start = on_validation_start = on_validation_end = on_test_start = look_soon

    def look(self, trainer: L.Trainer) -> None:
        """Find out whether any rank wants to stop; save if a checkpoint is due."""
        self.batches += 1
        if self.batches < self.next_look:
            return
        now, batches = time.monotonic(), self.batches - self.looked_at
        is_due = float(now - self.saved > 60 * self.checkpoint_min)
        wanted = [self.reason(), is_due, (now - self.looked) / batches]
        reason, due, batch_seconds = agree(trainer, wanted)
        self.looked, self.looked_at = now, self.batches
        # the ranks know the same batch_seconds, so all of them look again after the same batch
        several = trainer.world_size > 1
        fitting = int(LOOK_SECONDS / max(batch_seconds, 1e-6)) if several else 1
        # the next batches may be slower: at most twice as many as the last time
        self.next_look = self.batches + max(1, min(fitting, 2 * batches))
        if reason:
            self.stop(trainer, int(reason))
        elif due and trainer.training:
            self.save(trainer)

    def reason(self) -> int:
        """Return why this rank wants to stop."""
        if "SIGINT" in stop_signal.received:
            return CTRL_C
        if stop_signal.received:
            return SIGNAL
        # in case that Slurm's signal was lost, or came too late for a slow file system
        return TIME_LIMIT if time.monotonic() > self.stop_time else NO_REASON

    def save(self, trainer: L.Trainer) -> None:
        if trainer.is_global_zero and len(read_attempts(self.folder)) > self.attempt + 1:
            # such as after a node was lost, whose processes live on
            raise UserError(f"another attempt has begun in {self.folder}: this one must not save")
        trainer.save_checkpoint(self.folder / "checkpoints" / LAST)
        self.saved = time.monotonic()
        if trainer.is_global_zero:
            self.choose_stop_time()

    def choose_stop_time(self) -> None:
        """Decide when to stop without a signal; slow saves need more time."""
        lead = lead_seconds(self.limit / 60, read_attempts(self.folder))
        self.stop_time = self.end_time - lead / 2

    def stop(self, trainer: L.Trainer, reason: int) -> None:
        """Save, and end this process: for Slurm to start the job again, if possible.

        Raises:
            KeyboardInterrupt: after Ctrl-C.
            UserError: on rank 0, with the reason, if the job cannot be requeued.
        """
        if trainer.state.fn == "fit":  # otherwise last.ckpt has the end of the training
            self.save(trainer)
        trainer.strategy.checkpoint_io.teardown()  # until the checkpoint is on disk
        trainer.strategy.barrier()
        step = f"step {trainer.global_step}"
        if trainer.is_global_zero and reason == CTRL_C:
            self.end("Ctrl-C")
            log.info(f"saved at {step}; to continue: python run.py --resume {self.folder}")
        if reason == CTRL_C:
            raise KeyboardInterrupt
        # Slurm ends all processes of a requeued job, at once: this is noted, and data-loading
        # workers that end are no error, so that rank 0 can still report
        signal.signal(signal.SIGTERM, stop_signal.note)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if trainer.is_global_zero:
            names = stop_signal.received or ["a signal to another process"]
            why = "the time limit is near" if reason == TIME_LIMIT else names[0]
            refused = self.no_requeue(trainer) or slurm.requeue()
            if refused:
                self.end(f"{why}; not requeued: {refused}")
                remedy = f"to continue: python run.py --resume {self.folder}"
                raise UserError(f"{why}: saved at {step}, but not requeued: {refused}; {remedy}")
            self.end(f"{why}; requeued")
            log.info(
                f"{why}: saved at {step}, and requeued; it continues when Slurm starts it again"
            )
        # the process that ends first would end the job; Slurm ends all of them
        for _ in range(10 * END_SECONDS):
            if "SIGTERM" in stop_signal.received:
                os._exit(1)  # srun reports the highest code: 1, the one of rank 0 if it fails
            time.sleep(0.1)
        raise UserError(f"requeued, but Slurm has not ended this job within {END_SECONDS} s")

    def no_requeue(self, trainer: L.Trainer) -> str:
        """Return why the job must not start again, or an empty text."""
        restarts = slurm.restarts()
        if not slurm.started_by_srun():
            return "this is not a Slurm job"
        if restarts >= self.max_requeues:
            return f"it has been requeued {restarts} times, see slurm.max_requeues"
        if trainer.global_step == self.first_step:
            return "this attempt has gained no step"
        return ""

    def end(self, reason: str) -> None:
        update_attempt(self.folder, ended=reason)


def agree(trainer: L.Trainer, values: list[float]) -> list[float]:
    """Return the maximum of each value over all ranks; all of them must call this."""
    if trainer.world_size == 1:
        return values
    found = torch.tensor(values, device=trainer.strategy.root_device)
    torch.distributed.all_reduce(found, op=torch.distributed.ReduceOp.MAX)
    return [value.item() for value in found]
