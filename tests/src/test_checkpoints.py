"""A checkpoint is complete or not there, and the newest good one is found: make test-fast."""

import errno
import itertools
import logging
import multiprocessing
import os
import random
import subprocess
import time
from pathlib import Path

import pytest
import torch
from lightning.pytorch.plugins.io import AsyncCheckpointIO

from src.utils import checkpoints
from src.utils.checkpoints import AtomicCheckpointIO, newest_checkpoint
from src.utils.errors import UserError, explain

DAMAGES = {
    "truncated": lambda data: data[: len(data) // 2],
    "zeroed": lambda data: bytes(len(data)),
    "garbage": lambda data: os.urandom(len(data)),
    "empty": lambda data: b"",
}


@pytest.fixture
def saved(tmp_path):
    """A folder with the checkpoints of steps 1 and 2."""
    folder = tmp_path / "run/checkpoints"
    folder.mkdir(parents=True)
    for step in (1, 2):
        save(folder, step)
    return folder


def save(folder, step):
    weights = torch.full((1000,), step)
    AtomicCheckpointIO().save_checkpoint(
        {"global_step": step, "weights": weights}, folder / "last.ckpt"
    )


def damage(path, how):
    path.write_bytes(DAMAGES[how](path.read_bytes()))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(saved, how, caplog):
    damage(saved / "last.ckpt", how)

    with caplog.at_level(logging.WARNING, "src"):
        found = newest_checkpoint(saved)

    assert found == (saved / "previous.ckpt", 1)
    assert names(saved) == ["last.damaged", "previous.ckpt"]
    [line] = caplog.messages
    assert line.startswith(f"{saved / 'last.ckpt'} is damaged, and left out (")
    assert "\n" not in line


def test_if_all_checkpoints_are_damaged_the_training_does_not_start_again(saved):
    for name in ("last.ckpt", "previous.ckpt"):
        damage(saved / name, "truncated")

    with pytest.raises(UserError) as caught:
        newest_checkpoint(saved)

    said = str(caught.value)
    assert str(saved / "last.ckpt") in said
    assert str(saved / "previous.ckpt") in said
    assert "\n" not in said


def test_a_new_run_has_no_checkpoint(tmp_path):
    assert newest_checkpoint(tmp_path) == (None, 0)
    assert newest_checkpoint(tmp_path / "missing") == (None, 0)


@pytest.fixture
def small_disk(tmp_path):
    """A folder for checkpoints on a file system of 20 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root can mount a file system")
    (disk / "run/checkpoints").mkdir(parents=True)
    yield disk / "run/checkpoints"
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_explained_and_keeps_the_earlier_checkpoints(small_disk):
    for step in (1, 2):
        save(small_disk, step)
    saver = AsyncCheckpointIO(AtomicCheckpointIO())
    too_large = {"global_step": 3, "weights": torch.zeros(6_000_000)}

    saver.save_checkpoint(too_large, small_disk / "last.ckpt")
    with pytest.raises(OSError, match="No space left") as caught:
        saver.teardown()

    said = explain(caught.value)
    assert said.startswith("the disk or your quota is full")
    assert "earlier files are kept" in said
    assert f"MB free in {small_disk}" in said
    assert "\n" not in said
    assert names(small_disk) == ["last.ckpt", "previous.ckpt"]
    assert newest_checkpoint(small_disk) == (small_disk / "last.ckpt", 2)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_write_that_fails_late_leaves_nothing_behind(saved, monkeypatch, code):
    def fail(handle):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(checkpoints.os, "fsync", fail)

    with pytest.raises(OSError, match=os.strerror(code)):
        save(saved, 3)

    assert names(saved) == ["last.ckpt", "previous.ckpt"]
    assert newest_checkpoint(saved) == (saved / "last.ckpt", 2)


def test_a_kill_between_the_two_renames_leaves_the_previous_checkpoint(saved, monkeypatch):
    replace = Path.replace

    def killed(self, target):
        if self.suffix == ".part":
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        save(saved, 3)

    assert newest_checkpoint(saved) == (saved / "previous.ckpt", 2)


def test_a_left_over_part_of_a_killed_save_is_in_nobodys_way(saved):
    (saved / ".last.ckpt.part").write_bytes(b"half a checkpoint")

    assert newest_checkpoint(saved) == (saved / "last.ckpt", 2)
    save(saved, 3)
    assert names(saved) == ["last.ckpt", "previous.ckpt"]


def save_for_ever(folder, step, begun):
    """Save as a training does, until this process is killed."""
    saver = AsyncCheckpointIO(AtomicCheckpointIO())
    for number in itertools.count(step):
        weights = torch.full((200_000,), number)
        saver.save_checkpoint({"global_step": number, "weights": weights}, folder / "last.ckpt")
        begun.set()


@pytest.mark.long
def test_fifty_kills_during_saving_always_leave_a_checkpoint(saved):
    newest, while_writing = 2, 0
    processes = multiprocessing.get_context("fork")
    for _ in range(50):
        begun = processes.Event()
        saving = processes.Process(target=save_for_ever, args=(saved, newest + 1, begun))
        saving.start()
        assert begun.wait(60)
        time.sleep(random.random() * 0.2)
        saving.kill()
        saving.join()
        while_writing += (saved / ".last.ckpt.part").exists()

        path, step = newest_checkpoint(saved)

        assert torch.load(path, weights_only=True)["weights"].eq(step).all()
        assert step >= newest
        newest = step
    print(f"{while_writing} of 50 kills while a file was written; the newest step is {newest}")
    assert while_writing
