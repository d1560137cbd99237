"""The checks of lesson 9, on runs that were interrupted and continued: see check.py."""

import itertools
import zipfile

from checks.runs import Wrong, has_ended, number_of, run_of, runs_by_run_py

OF_EVERY_RUN = ("best.ckpt", "last.ckpt", "previous.ckpt")
RESUME = "python run.py --resume"


def was_interrupted(run):
    """The run was interrupted, and continued."""
    name = f"{run.name}/attempts.jsonl"
    if len(run.attempts) < 2:
        advice = "start such a run again; while it trains, scancel --signal=USR1 JOB (or Ctrl-C"
        advice += f" without Slurm, then {RESUME} FOLDER)"
        raise Wrong(f"{number_of(len(run.attempts), 'line')} in {name}", "two or more", advice)
    if not any(attempt.get("from_step") for attempt in run.attempts):
        found = f"every attempt begins at step 0, according to {name}"
        advice = "interrupt it after its first epoch, and leave last.ckpt in checkpoints/"
        raise Wrong(found, "an attempt that continues from a checkpoint", advice)


def has_one_curve(run):
    """TensorBoard shows one curve, with each epoch once."""
    steps, epochs = sorted(run.curve("val_loss")), run.done.get("epochs")
    gaps = {later - earlier for earlier, later in itertools.pairwise(steps)}
    if len(steps) != epochs or len(gaps) > 1:
        found = f"{number_of(len(steps), 'point')} of val_loss in {run.name}, with"
        found += f" {' or '.join(map(str, sorted(gaps))) or 'no'} steps between them"
        advice = "leave the files of TensorBoard in the folder; if that fails, train again"
        raise Wrong(found, f"{number_of(epochs, 'point')} at equal distances", advice)


def can_continue(run):
    """A complete checkpoint is there to continue from."""
    path = run.folder / "checkpoints/last.ckpt"
    if not path.is_file() or not zipfile.is_zipfile(path):
        found = f"{path.name} is damaged" if path.exists() else f"no checkpoint {path.name}"
        raise Wrong(f"{found} in {run.name}", "a complete checkpoint", "run the training again")


# --- the challenge


def keep():
    how = "python run.py --dataset=mnist --arch=fully_connected --keep_every=2 --max_epochs=4"
    how += f" --experiment_name=keep, then {RESUME} logs/keep/version_0 --max_epochs=8"
    checks = [has_ended, was_continued, keeps_every_second_epoch]
    runs = [run for run in runs_by_run_py() if run.settings.get("experiment_name") == "keep"]
    run = run_of(9, runs, checks, how)
    return [(check, run) for check in checks]


def was_continued(run):
    """The run was continued for more epochs."""
    if len(run.attempts) < 2:
        found = f"{number_of(len(run.attempts), 'line')} in {run.name}/attempts.jsonl"
        epochs = 2 * (run.done.get("epochs") or 4)
        raise Wrong(found, "two or more", f"{RESUME} {run.name} --max_epochs={epochs}")


def keeps_every_second_epoch(run):
    """The checkpoint of every second epoch is still there."""
    files = [path for path in run.folder.rglob("*.ckpt") if path.name not in OF_EVERY_RUN]
    damaged = [path.name for path in files if not zipfile.is_zipfile(path)]
    if damaged:
        raise Wrong(f"{damaged[0]} is damaged", "complete checkpoints", "train again")
    if len(files) != (expected := run.done["epochs"] // 2):
        found = f"{number_of(len(files), 'checkpoint')} besides {', '.join(OF_EVERY_RUN)}"
        advice = "add another ModelCheckpoint to make_trainer: see every_n_epochs and save_top_k"
        raise Wrong(f"{found} in {run.name}", f"{expected}, of {run.done['epochs']} epochs", advice)
