"""Files and folder names that try to run code: make test."""

import hashlib
import pickle
import re
import shutil
import sys

import pytest
import torch

from clone import ARGUMENTS_LESSON, ROOT, Hostile, make_clone
from login_node import SlurmLoginNode

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

FAST = ["--arch=fully_connected", "--max_epochs=1"]
WEIGHTS = "resnet18-f37072fd.pth"


def pwned(login_node):
    return list(login_node.folder.rglob("PWNED"))


def test_a_hostile_batch_file_is_not_even_opened(login_node, page, hostile_data):
    [job] = login_node.launch_jobs(f"--data_dir={hostile_data}", *FAST)
    log = login_node.wait_for_failure(job)

    assert "data_batch_1 is damaged" in log
    assert "Traceback" not in log
    assert not pwned(login_node)
    page("The data are missing or damaged", log)


def test_a_hostile_batch_file_with_matching_sums_runs_nothing(login_node, page, hostile_data):
    batch, sums = (hostile_data / "cifar-10-batches-py" / n for n in ("data_batch_1", "SHA256SUMS"))
    new = hashlib.sha256(batch.read_bytes()).hexdigest()
    sums.write_text(re.sub(r"\w{64}(?=  data_batch_1$)", new, sums.read_text(), flags=re.M))

    [job] = login_node.launch_jobs(f"--data_dir={hostile_data}", *FAST)
    log = login_node.wait_for_failure(job)

    assert "Traceback" not in log
    assert not pwned(login_node)
    page("A data file would run code", log)


@pytest.fixture
def hostile_data(login_node, tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    shutil.copytree(login_node.folder / "data/cifar-10-batches-py", folder)
    (folder / "data_batch_1").write_bytes(pickle.dumps({"data": Hostile(), "labels": []}))
    return tmp_path


def test_hostile_weights_run_nothing(login_node, page, tmp_path):
    cache = tmp_path / "hub/checkpoints"
    cache.mkdir(parents=True)
    (cache / WEIGHTS).write_bytes(pickle.dumps(Hostile()))

    [job] = login_node.launch_jobs("--weights=DEFAULT", "--max_epochs=1", TORCH_HOME=str(tmp_path))
    log = login_node.wait_for_failure(job)

    assert f"{WEIGHTS} is damaged" in log
    assert "Traceback" not in log
    assert not pwned(login_node)
    page("The pretrained weights are missing or damaged", log)


def test_a_hostile_checkpoint_runs_nothing(login_node, page):
    done = login_node.clone.run(sys.executable, "run.py", "--local", *FAST)
    assert done.returncode == 0, done.stderr
    [good] = login_node.folder.glob("logs/**/best.ckpt")
    checkpoint = torch.load(good, weights_only=True)
    hostile = login_node.folder / "hostile.ckpt"
    torch.save({**checkpoint, "callbacks": Hostile()}, hostile)
    # the lines of docs/your-own-data-and-model.md
    page_text = (ROOT / "docs/your-own-data-and-model.md").read_text()
    [lines] = re.findall(r"```python\n(from src\.models.*?)```", page_text, re.DOTALL)

    loaded = [
        login_node.clone.run(sys.executable, "-c", f"checkpoint = {str(path)!r}\n{lines}")
        for path in (good, hostile)
    ]
    hostile.unlink()

    assert [done.returncode for done in loaded] == [0, 1], loaded[0].stderr
    assert not pwned(login_node)
    page("A checkpoint would run code", loaded[1].stderr)


def test_f16_a_folder_name_that_contains_commands_runs_nothing(
    course, sample_data, practice_cluster, tmp_path
):
    name = """it's $(touch PWNED); a folder * `touch PWNED` #SBATCH & é"""
    home = tmp_path / name
    home.mkdir()
    clone = make_clone(course, sample_data, home)
    clone.git("switch", "--quiet", ARGUMENTS_LESSON)
    login_node = SlurmLoginNode(practice_cluster, clone)

    [job] = login_node.launch_jobs("--num_nodes=2", *FAST)
    state = login_node.wait(job)

    assert state == "COMPLETED", login_node.log(job) + login_node.log(job, "err")
    assert len(list(login_node.folder.glob("logs/**/DONE.json"))) == 1
    assert not list(tmp_path.rglob("PWNED"))
