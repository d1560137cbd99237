"""make preflight on the practice cluster: make test."""

import os
import re
import shutil
import signal
import subprocess
import sys

import pytest

from practice_cluster import wait_until

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


@pytest.fixture(scope="module")
def node(module_login_node):
    return module_login_node


@pytest.fixture(autouse=True)
def put_back(node):
    """Remove site.sh, and resume the nodes."""
    yield
    (node.folder / "site.sh").unlink(missing_ok=True)
    node.repair()


def preflight(node, *words, **env):
    command = [sys.executable, "tools/preflight.py", *words]
    return node.clone.run(*command, env={**node.env, **env})


def rows(shown):
    """Return the name of each row in the table -> its state, and its whole text."""
    parts = re.split(r"^(?=(?:PASS|FAIL|WARN|SKIPPED) )", shown, flags=re.MULTILINE)[1:]
    return {part[8:29].strip(): (part[:8].strip(), " ".join(part[29:].split())) for part in parts}


def test_a_healthy_cluster_passes_and_trains_on_two_nodes(node):
    done = preflight(node, "--full")

    table = rows(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    wrong = {name: row for name, row in table.items() if row[0] in ("FAIL", "WARN")}
    # on a busy machine, the imports take long
    assert all("the imports took" in text for _, text in wrong.values()), done.stdout
    assert table["training, 2 nodes"][0] == "PASS"
    assert re.search(r"^PASS: (\d+) of \1 checks \(.*2 skipped\)$", done.stdout, re.MULTILINE)
    report = (node.folder / "preflight-report.txt").read_text()
    assert "$ scontrol --oneliner show partition" in report
    assert '"sees_other": true' in report
    wait_until(lambda: not node.run(["squeue", "--noheader"]), 60, "the end of all jobs")


@pytest.mark.long
def test_several_faults_at_once_each_have_their_remedy(node):
    """A damaged file, fake GPUs, a time limit that is too short, a module that does not exist."""
    images = node.folder / "data/MNIST/raw/train-images-idx3-ubyte"
    kept = images.read_bytes()
    images.write_bytes(kept[:-1] + b"x")
    lines = "export GRES=gpu\nexport SBATCH_ACCOUNT=nobody\nmodule load python/3.99\n"
    (node.folder / "site.sh").write_text(lines)
    node.run(["scontrol", "update", "partitionname=work", "MaxTime=30"])
    try:
        done = preflight(node)
    finally:
        images.write_bytes(kept)
        node.run(["scontrol", "update", "partitionname=work", "MaxTime=1-0"])

    table = rows(done.stdout)
    assert done.returncode == 1, done.stdout + done.stderr
    failed = {name for name, row in table.items() if row[0] == "FAIL"}
    assert failed == {"jobs of the lessons", "data", "modules", "GPU of a job"}
    assert table["GPU job"][0] == "SKIPPED"  # refused for the same reason
    assert "train-images-idx3-ubyte is damaged" in table["data"][1]
    assert 'bash data/get_mnist.sh"' in table["data"][1]
    assert "export SBATCH_TIMELIMIT=00:30:00" in table["jobs of the lessons"][1]
    assert "module: command not found" in table["modules"][1]
    assert "sees no GPU on node1 with --gres=gpu:1" in table["GPU of a job"][1]
    assert table["MASTER_ADDR"][0] == "PASS"


def test_a_python_that_does_not_exist(node):
    (node.folder / "site.sh").write_text("export PYTHON=/nowhere/bin/python\n")

    done = preflight(node)

    state, text = rows(done.stdout)["probe job"]
    assert (done.returncode, state) == (1, "FAIL"), done.stdout
    assert "PYTHON in site.sh is '/nowhere/bin/python', which does not run Python here" in text


@pytest.fixture
def busy(node):
    """A cluster that is full."""
    shutil.rmtree(node.folder / "logs", ignore_errors=True)
    options = ["--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=sleep 300"]
    job = node.run(["sbatch", "--parsable", *options], cwd=node.folder).strip()
    node.wait_for_state(job, "RUNNING")
    return job


def test_ctrl_c_cancels_the_job_and_leaves_a_whole_report(node, busy):
    command = [sys.executable, "-u", "tools/preflight.py"]
    options = {"cwd": node.folder, "env": {**node.clone.env, **node.env}, "text": True}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True, **options)
    try:
        wait_until(lambda: "preflight-" in node.run(["squeue", "--format=%j"]), 120, "the job")
        os.killpg(process.pid, signal.SIGINT)
        shown, _ = process.communicate(timeout=120)
    finally:
        process.kill()

    assert process.returncode == 130, shown
    assert "INTERRUPTED: " in shown
    jobs = ["squeue", "--noheader", "--format=%i"]
    wait_until(lambda: node.run(jobs).split() == [busy], 60, "the end of the job")
    report = (node.folder / "preflight-report.txt").read_text()
    assert "interrupted: " in report
    assert "$ scancel" in report
    assert not list(node.folder.glob("logs/*"))


def test_a_job_that_waits_for_ever_is_cancelled(node, busy):
    done = preflight(node, "--wait", "2")

    table = rows(done.stdout)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "has waited" in table["probe job"][1]
    assert "export SBATCH_RESERVATION=<name>" in table["probe job"][1]
    jobs = ["squeue", "--noheader", "--format=%i"]
    wait_until(lambda: node.run(jobs).split() == [busy], 60, "the end of the job")
