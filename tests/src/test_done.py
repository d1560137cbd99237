"""src/callbacks/done.py: a training starts clean, and only its end writes DONE.json: make test."""

import json
import re
import runpy
import sys
import threading
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger

from clone import ARGUMENTS_LESSON, ROOT
from src.callbacks.done import CleanStart, EndAtCtrlC, StopIfDiverged, write_done
from src.utils.errors import UserError

SHORT = ["run.py", "--local", "--arch=fully_connected", "--max_epochs=1"]
COMMANDS = {"2-lightning-module": ["-m", "src.main"], ARGUMENTS_LESSON: SHORT}
EIGHT = "8-distributed-training"
# the variables by which Lightning detects srun; it resumes only then
IN_A_STEP = {
    **{"SLURM_JOB_ID": "3", "SLURM_JOB_NAME": "mnist", "SLURM_NTASKS": "1", "SLURM_PROCID": "0"},
    **{"SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_NTASKS_PER_NODE": "1"},
    **{"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_NUM_NODES": "1"},
    **{"SLURM_STEP_TASKS_PER_NODE": "1", "SLURM_NODELIST": "localhost"},
}


def trainer(folder, is_global_zero=True):
    paths = {"default_root_dir": str(folder), "log_dir": str(folder / "logs")}
    (folder / "logs").mkdir(exist_ok=True)
    best = SimpleNamespace(best_model_path=str(folder / "logs/checkpoints/best.ckpt"))
    state = {"is_global_zero": is_global_zero, "max_epochs": 2, "global_step": 3}
    return SimpleNamespace(**paths, **state, checkpoint_callback=best)


def test_a_nan_metric_leaves_no_done_json(tmp_path):
    ended = trainer(tmp_path)

    with pytest.raises(UserError, match="has diverged"):
        write_done(ended, {"test_acc": 0.1, "test_loss": float("nan")})
    assert not list((tmp_path / "logs").iterdir())

    write_done(ended, {"test_acc": 0.5})
    done = json.loads((tmp_path / "logs/DONE.json").read_text())
    best = "checkpoints/best.ckpt"
    assert done == {"epochs": 2, "steps": 3, "test_acc": 0.5, "checkpoint": best}


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_training_that_has_diverged_ends_before_the_next_epoch(loss):
    begun = SimpleNamespace(callback_metrics={"val_loss": torch.tensor(loss)})

    with pytest.raises(UserError, match=f"has diverged, {{'val_loss': {loss}}}: lower the"):
        StopIfDiverged().on_train_epoch_start(begun, None)


@pytest.mark.parametrize("metrics", [{}, {"val_loss": torch.tensor(2.5)}], ids=["none", "finite"])
def test_a_training_continues_if_its_loss_is_finite_or_unknown(metrics):
    StopIfDiverged().on_train_epoch_start(SimpleNamespace(callback_metrics=metrics), None)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError()], ids=["Ctrl-C", "bug"])
def test_ctrl_c_within_a_write_of_tensorboard_lets_its_thread_wait_for_nothing(tmp_path, error):
    logger = TensorBoardLogger(tmp_path)
    logger.experiment.flush()
    not_empty = logger.experiment.file_writer.event_writer._async_writer._byte_queue.not_empty

    def interrupt():  # between the new value and the word to the thread that writes it
        del not_empty.notify
        raise KeyboardInterrupt

    not_empty.notify = interrupt
    with pytest.raises(KeyboardInterrupt):
        logger.log_metrics({"train_loss": 0.5}, 3)
    ended = SimpleNamespace(logger=logger, current_epoch=0, global_step=3)
    finalize = threading.Thread(target=logger.finalize, args=("failed",), daemon=True)

    EndAtCtrlC().on_exception(ended, None, error)
    finalize.start()
    finalize.join(2 if isinstance(error, ValueError) else 60)

    # other errors do not come from within a write
    assert finalize.is_alive() == isinstance(error, ValueError)
    with not_empty:
        not_empty.notify()


def test_only_rank_0_writes_and_all_ranks_learn_the_folder(tmp_path):
    folder = write_done(trainer(tmp_path, is_global_zero=False), {"test_acc": 0.5})

    assert folder == str(tmp_path / "logs")
    assert not list((tmp_path / "logs").iterdir())


@pytest.fixture(scope="module")
def moving_start():
    """CleanStart of lessons 5 to 8, which do not continue a run."""
    done = runpy.run_path(str(ROOT / "lessons/5-improved-logging/src/callbacks/done.py"))
    return done["CleanStart"]()


def test_the_results_of_an_earlier_start_are_moved_aside(tmp_path, caplog, moving_start):
    logs = tmp_path / "logs"
    for number in (1, 2):
        begun = trainer(tmp_path)
        (logs / "checkpoints").mkdir()
        (logs / f"checkpoints/{number}.ckpt").touch()
        (logs / "predictions.csv").write_text(f"predictions {number}")
        (logs / "hparams.yaml").write_text(f"settings {number}")
        (logs / "events.out").touch()
        write_done(begun, {"test_acc": number})

        moving_start.setup(begun, None, "fit")

        earlier = logs / f"earlier_{number}"
        assert json.loads((earlier / "DONE.json").read_text())["test_acc"] == number
        assert (earlier / f"checkpoints/{number}.ckpt").is_file()
        assert (earlier / "predictions.csv").read_text() == f"predictions {number}"
        assert (earlier / "hparams.yaml").read_text() == f"settings {number}"
        assert caplog.messages[-1] == (
            f"{logs} has results of an earlier training: moved to {earlier.name}"
        )
    assert sorted(path.name for path in logs.iterdir()) == ["earlier_1", "earlier_2", "events.out"]


def test_the_first_start_moves_nothing(tmp_path, caplog, moving_start):
    moving_start.setup(trainer(tmp_path), None, "fit")

    assert caplog.messages == []
    assert not list((tmp_path / "logs").iterdir())


@pytest.mark.parametrize("stage", ["fit", "test"])
def test_only_rank_0_moves_results(tmp_path, stage, moving_start):
    write_done(trainer(tmp_path), {"test_acc": 0.5})

    moving_start.setup(trainer(tmp_path, is_global_zero=False), None, stage)

    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["DONE.json"]


def test_the_test_after_the_training_removes_nothing(tmp_path, moving_start):
    ended = trainer(tmp_path)
    write_done(ended, {"test_acc": 0.5})

    moving_start.setup(ended, None, "test")

    assert (tmp_path / "logs/DONE.json").is_file()


def test_a_training_without_a_log_folder_starts_and_ends_too(tmp_path):
    silent = SimpleNamespace(
        default_root_dir=str(tmp_path),
        log_dir=None,
        is_global_zero=True,
        max_epochs=1,
        global_step=1,
        checkpoint_callback=None,
    )

    CleanStart().setup(silent, None, "fit")

    assert write_done(silent, {"test_acc": 0.5}) is None


def test_a_leftover_checkpoint_is_reported_with_a_remedy(tmp_path):
    (tmp_path / "hpc_ckpt_1.ckpt").touch()

    with pytest.raises(UserError) as error:
        CleanStart().setup(trainer(tmp_path), None, "fit")

    start = f"{tmp_path}/hpc_ckpt_1.ckpt is left over from an interrupted job; "
    assert str(error.value) == f"{start}Lightning would resume from it: move or delete it"


@pytest.mark.slow
@pytest.mark.parametrize("env", [{}, IN_A_STEP], ids=["here", "in a job step"])
@pytest.mark.parametrize("branch", COMMANDS)
def test_a_leftover_checkpoint_ends_a_training_and_stays(module_clone, branch, env):
    module_clone.git("switch", "--quiet", branch)
    left = module_clone.folder / "hpc_ckpt_1.ckpt"
    left.write_bytes(b"of an earlier job")

    done = module_clone.run(sys.executable, *COMMANDS[branch], env={**module_clone.env, **env})
    still_there = left.is_file() and left.read_bytes()
    left.unlink()

    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"{left} is left over from an interrupted job; Lightning would resume ")
    assert done.stderr.count("hpc_ckpt_1.ckpt") == 1
    assert "Traceback" not in done.stderr
    assert "epoch  1/" not in done.stdout
    assert still_there == b"of an earlier job"


@pytest.mark.slow
def test_a_second_start_in_the_same_folder_keeps_the_first_one_apart(module_clone):
    module_clone.git("switch", "--quiet", EIGHT)
    command = [sys.executable, *SHORT, "--run_number=7"]
    folder = module_clone.folder / "logs/cifar10/version_7"

    good = module_clone.run(*command)
    done = json.loads((folder / "DONE.json").read_text())
    first = {path.name: path.read_bytes() for path in folder.rglob("*.ckpt")}
    bad = module_clone.run(*command, "--optimizer=SGD", "--learning_rate=1000")

    assert good.returncode == 0, good.stderr
    assert done["steps"] == 21  # 1350 images, 64 per step; the last 6 are left out
    assert done["checkpoint"] == "checkpoints/epoch=0-step=21.ckpt"
    assert bad.returncode == 1
    assert "has diverged" in bad.stderr.splitlines()[-1]
    assert "version_7 has results of an earlier training: moved to earlier_1" in bad.stdout
    assert not (folder / "DONE.json").exists()
    earlier = folder / "earlier_1"
    assert json.loads((earlier / "DONE.json").read_text()) == done
    kept = {path.name: path.read_bytes() for path in (earlier / "checkpoints").iterdir()}
    assert kept == first
    assert "learning_rate: 1000" in (folder / "hparams.yaml").read_text()
    assert "learning_rate: 0.001" in (earlier / "hparams.yaml").read_text()


@pytest.mark.slow
def test_a_diverged_training_ends_after_the_epoch_in_the_log(module_clone):
    module_clone.git("switch", "--quiet", ARGUMENTS_LESSON)
    command = ["run.py", "--local", "--arch=fully_connected", "--max_epochs=5", "--devices=2"]

    done = module_clone.run(sys.executable, *command, "--optimizer=SGD", "--learning_rate=1000")

    assert done.returncode == 1
    assert len(re.findall(" INFO epoch ", done.stdout)) == 1
    assert "the training has diverged, {'val_loss': nan}: lower the learning rate" in done.stderr
    assert "Traceback" not in done.stderr
