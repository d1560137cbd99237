"""Damaged data, full disks and too little shared memory: make test."""

import shutil
import subprocess
import sys
import time

import pytest
import torch
from torch import multiprocessing

from clone import ARGUMENTS_LESSON
from practice_cluster import wait_until
from src.utils.errors import explain

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

FAST = ["--arch=fully_connected", "--max_epochs=1"]
LASTING = ["--arch=fully_connected", "--max_epochs=500"]


@pytest.fixture
def small_disk(login_node):
    """A folder of the clone with room for one checkpoint (5 MB) but not two."""
    folder = login_node.folder / "small"
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root can mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
    folder.rmdir()


def test_f13_a_full_disk_is_explained_and_keeps_the_last_checkpoint(login_node, page, small_disk):
    job = login_node.submit_run_sh(
        ARGUMENTS_LESSON, "--ntasks-per-node=1", args=["--log_path=small", *LASTING]
    )

    login_node.wait(job)

    assert login_node.accounting_state(job) == "FAILED"
    log = login_node.run_sh_log(job)
    assert "Traceback" not in log
    assert not list(small_disk.rglob("DONE.json"))
    page("The disk is full", log)
    program = (
        "import sys, torch\n"
        "for path in sys.argv[1:]:\n"
        "    try: torch.load(path, weights_only=True); print('whole', path)\n"
        "    except Exception: print('cut', path)\n"
    )
    checkpoints = map(str, small_disk.rglob("*.ckpt"))
    found = login_node.clone.run(sys.executable, "-c", program, *checkpoints).stdout
    assert found.count("whole") >= 1, found
    assert "cut" not in found, found


@pytest.mark.parametrize("branch", ["3-improved-data-loading", ARGUMENTS_LESSON])
def test_f14_too_little_shared_memory_is_explained(login_node, page, branch):
    login_node.clone.git("switch", "--quiet", branch)
    program = "-m src.main"
    if branch == ARGUMENTS_LESSON:
        program = f"run.py --local --num_workers=2 {' '.join(FAST)}"
    private = f"mount -t tmpfs -o size=256k tmpfs /dev/shm && exec {sys.executable} {program}"

    words = ["srun", "--ntasks=1", "--mem=4G", "unshare", "--mount", "bash", "-c", private]
    done = login_node.clone.run(*words, env=login_node.env, timeout=120)

    if "unshare" in done.stderr:
        pytest.skip("only root can make a private mount")
    assert done.returncode == 1
    assert "test loss" not in done.stdout
    page("The shared memory is too small", done.stderr)


def test_f14_a_killed_worker_is_explained(login_node, inject_fault, page):
    inject_fault("from multiprocessing import active_children as a; os.kill(a()[0].pid, 9)")

    [job] = login_node.launch_jobs("--num_workers=1", *LASTING)

    page("A data-loading worker was killed", login_node.wait_for_failure(job))


def test_f14_a_worker_killed_while_it_sends_a_batch_is_explained():
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    worker = context.Process(target=lambda: (queue.put(torch.zeros(3)), time.sleep(60)))
    worker.start()
    wait_until(lambda: not queue.empty(), 60, "a batch")
    worker.kill()
    worker.join()

    with pytest.raises(OSError) as error:
        queue.get()

    assert explain(error.value).startswith("a data-loading worker was killed: /dev/shm (")


def damage_byte(path):
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


DAMAGE = {
    "a changed byte": (damage_byte, "is damaged"),
    "a cut file": (lambda path: path.write_bytes(path.read_bytes()[:1000]), "is damaged"),
    "an empty file": (lambda path: path.write_bytes(b""), "is empty"),
    "a missing file": (lambda path: path.unlink(), "is missing"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_f24_damaged_data_fail_the_job_before_training(login_node, page, tmp_path, damage):
    change, sentence = DAMAGE[damage]
    folder = tmp_path / "cifar-10-batches-py"
    shutil.copytree(login_node.folder / "data/cifar-10-batches-py", folder)
    change(folder / "data_batch_4")

    [job] = login_node.launch_jobs("--num_nodes=2", f"--data_dir={tmp_path}", *FAST)
    log = login_node.wait_for_failure(job)

    assert f"data_batch_4 {sentence}" in log
    assert "Traceback" not in log
    assert "epoch " not in log
    page("The data are missing or damaged", log)
