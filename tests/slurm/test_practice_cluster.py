"""cluster/practice against the real Slurm it starts: make test, or pytest -m slurm."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from page_rows import shows
from practice_cluster import PRACTICE, PracticeCluster, wait_until

pytestmark = pytest.mark.slurm

DAEMONS = ["mariadbd", "munged", "node1", "node2", "slurmctld", "slurmdbd"]

# what a job does that is requeued: the second start ends at once
FIRST_START_LASTS = '[ "${SLURM_RESTART_COUNT:-0}" != 0 ] || sleep 300'

TRAIN = """
import lightning as L
import torch
from lightning.pytorch.callbacks import Callback


class Net(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch, _):
        x, y = batch
        loss = torch.nn.functional.mse_loss(self.layer(x), y)
        self.log("loss", loss, on_step=False, on_epoch=True, sync_dist=True)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Report(Callback):
    def on_train_epoch_end(self, trainer, module):
        loss, weight = trainer.callback_metrics["loss"].item(), module.layer.weight.sum().item()
        host = trainer.strategy.cluster_environment.main_address
        print(f"REPORT {trainer.global_rank} {trainer.world_size} {host} {loss!r} {weight!r}")


L.seed_everything(1)
x = torch.randn(64, 4)
data = torch.utils.data.TensorDataset(x, x.sum(1, keepdim=True))
trainer = L.Trainer(
    accelerator="cpu",
    devices=2,
    num_nodes=2,
    strategy="ddp",
    max_epochs=2,
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
    callbacks=[Report()],
)
trainer.fit(Net(), torch.utils.data.DataLoader(data, batch_size=8))
trainer.strategy.barrier()
torch.distributed.destroy_process_group()
"""


@pytest.fixture
def cluster(practice_cluster: PracticeCluster) -> Iterator[PracticeCluster]:
    yield practice_cluster
    practice_cluster.repair()


@pytest.fixture
def short_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="practice-test-"))
    yield folder
    shutil.rmtree(folder)


class Observed(NamedTuple):
    """What was seen while another cluster was started and stopped."""

    cluster: PracticeCluster
    port: int
    table_is_left: bool
    stranger_is_left: bool
    second_down: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def observed(practice_cluster: PracticeCluster) -> Iterator[Observed]:
    folder = Path(tempfile.mkdtemp(prefix="practice-test-"))
    cluster = PracticeCluster(folder / "another state")
    table = Path("/tmp") / f"#sql-temptable-{os.getpid()}-1-1.MAI"
    table.touch()
    env = {**os.environ, "PRACTICE_CLUSTER": str(folder / "yet another")}
    stranger = subprocess.Popen(["sleep", "600"], env=env)

    try:
        cluster.up()
        table_is_left = table.exists()
        shown = cluster.run(["scontrol", "show", "config"])
        port = int(shown.split("SlurmctldPort")[1].split()[1])
        cluster.down()
        stranger_is_left = stranger.poll() is None
        second_down = cluster.practice("down")
        yield Observed(cluster, port, table_is_left, stranger_is_left, second_down)
    finally:
        stranger.kill()
        stranger.wait()
        table.unlink(missing_ok=True)
        cluster.down()
        shutil.rmtree(folder)


@pytest.fixture
def another(observed: Observed) -> Iterator[PracticeCluster]:
    """A cluster that was up and is down."""
    yield observed.cluster
    observed.cluster.down()


def batch(*commands: str) -> str:
    return "\n".join(["#!/bin/bash", "set -euo pipefail", *commands, ""])


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def listening_addresses(pids: list[int]) -> set[str]:
    """In the kernel's spelling: 7F is the last byte of a loopback address."""
    inodes = set()
    for pid in pids:
        for fd in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                inodes.add(str(fd.readlink()))
            except OSError:
                continue
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in inodes}


def test_every_check_passes(cluster: PracticeCluster) -> None:
    done = cluster.practice("check")

    assert done.returncode == 0, done.stdout
    assert "10 of 10 checks passed" in done.stdout
    assert "FAIL" not in done.stdout


def test_down_leaves_no_process_and_the_next_up_keeps_the_history(cluster: PracticeCluster) -> None:
    with tempfile.TemporaryDirectory() as folder:
        job = cluster.submit(batch("true"), cwd=Path(folder))
        cluster.wait(job)
        cluster.submit(batch("sleep 300"), cwd=Path(folder))

        cluster.down()
        after_down = cluster.processes()
        cluster.up()

    assert after_down == {}
    assert cluster.sacct(job, "NodeList")[job]["NodeList"] == "node1"
    assert cluster.practice("check").returncode == 0


def test_down_twice_is_not_an_error(observed: Observed) -> None:
    assert observed.second_down.returncode == 0
    assert "0 processes ended" in observed.second_down.stdout


def test_a_second_up_changes_nothing(cluster: PracticeCluster) -> None:
    before = cluster.processes()

    shown = cluster.up()

    assert "already up" in shown
    assert cluster.processes() == before
    assert sorted(set(before.values())) == DAEMONS


def test_up_repairs_a_cluster_after_all_daemons_were_killed(cluster: PracticeCluster) -> None:
    cluster.kill(*DAEMONS)
    wait_until(lambda: not cluster.processes(), 60, "no process left")

    cluster.up()

    assert cluster.practice("check").returncode == 0


def test_down_after_a_crash_ends_leftover_jobs(cluster: PracticeCluster, tmp_path: Path) -> None:
    job = cluster.submit(batch("srun sleep 300"), "--nodes=2", cwd=tmp_path)
    cluster.wait_for_state(job, "RUNNING")
    wait_until(lambda: "job" in cluster.processes().values(), 60, "a task runs")
    cluster.kill("slurmctld", "node1", "node2")

    cluster.down()

    assert cluster.processes() == {}


def test_status_names_the_missing_daemon(cluster: PracticeCluster) -> None:
    healthy = cluster.practice("status")
    cluster.kill("node2")

    broken = cluster.practice("status")

    assert healthy.returncode == 0
    assert broken.returncode == 1
    assert "slurmd node2  not running" in broken.stdout
    assert f"next: cluster/practice --state {cluster.state} up" in broken.stdout


def test_down_spares_a_process_that_only_looks_like_ours(observed: Observed) -> None:
    assert observed.stranger_is_left


@pytest.mark.skipif(os.getuid() != 0, reason="all the other tests already run as this user")
def test_an_ordinary_user_can_have_a_cluster_next_to_that_of_root(
    cluster: PracticeCluster, short_folder: Path
) -> None:
    program = shutil.copytree(PRACTICE.parent, short_folder / "cluster") / "practice"
    home = short_folder / "home"
    home.mkdir()
    short_folder.chmod(0o755)
    shutil.chown(home, "nobody", "nogroup")
    prefix = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    user = PracticeCluster(home / "state", program, prefix, {"HOME": str(home)})

    try:
        user.up()
        checked = user.practice("check")
        owners = {Path(f"/proc/{pid}").stat().st_uid for pid in user.processes()}
    finally:
        user.down()

    assert "10 of 10 checks passed" in checked.stdout, checked.stdout
    assert owners == {home.stat().st_uid}
    assert user.processes() == {}
    assert sorted(set(cluster.processes().values())) == DAEMONS


def test_every_socket_is_on_loopback_even_while_a_job_runs(
    cluster: PracticeCluster, tmp_path: Path
) -> None:
    job = cluster.submit(batch("srun sleep 60"), "--nodes=2", cwd=tmp_path)
    cluster.wait_for_state(job, "RUNNING")
    wait_until(lambda: "job" in cluster.processes().values(), 60, "a task runs")

    addresses = listening_addresses(list(cluster.processes()))

    assert len(addresses) >= 4
    assert all(address.partition(":")[0].endswith("7F") for address in addresses)


def test_no_secret_is_readable_by_others(cluster: PracticeCluster) -> None:
    modes = {
        name: (cluster.state / name).stat().st_mode & 0o777
        for name in [".", "munge", "munge/key", "etc", "etc/slurmdbd.conf", "mariadb", "log"]
    }
    lines = (cluster.state / "etc" / "slurmdbd.conf").read_text().splitlines()

    assert modes["munge/key"] == modes["etc/slurmdbd.conf"] == 0o600
    assert {name: mode for name, mode in modes.items() if mode & 0o077} == {}
    assert not any(line.startswith("StoragePass") for line in lines)


def test_the_temporary_tables_of_another_server_are_left_alone(observed: Observed) -> None:
    assert observed.table_is_left


def test_each_cluster_has_its_own_munge_key(
    cluster: PracticeCluster, another: PracticeCluster
) -> None:
    keys = [(c.state / "munge" / "key").read_bytes() for c in (cluster, another)]

    assert keys[0] != keys[1]
    assert len(keys[0]) == len(keys[1]) == 128


def test_four_lightning_processes_on_two_nodes_agree_on_every_loss(
    cluster: PracticeCluster, tmp_path: Path
) -> None:
    (tmp_path / "train.py").write_text(TRAIN)
    shape = ["--nodes=2", "--ntasks-per-node=2", "--mem=4G", "--time=5", "--output=out"]

    job = cluster.submit(batch(f"srun {sys.executable} train.py"), *shape, cwd=tmp_path)
    state = cluster.wait(job, 280)

    shown = (tmp_path / "out").read_text()
    reports = [line.split()[1:] for line in shown.splitlines() if line.startswith("REPORT")]
    assert state == "COMPLETED", shown
    assert sorted(int(rank) for rank, *_ in reports) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert {tuple(rest[:2]) for _, *rest in reports} == {("4", "127.0.0.1")}
    # two epochs, hence two pairs of loss and weight, the same on all ranks
    assert len({tuple(rest[2:]) for _, *rest in reports}) == 2


def test_a_job_over_its_memory_is_killed_with_a_message(
    cluster: PracticeCluster, tmp_path: Path
) -> None:
    eat = "x = b'a' * 400_000_000; import time; time.sleep(60)"
    script = batch(f'{sys.executable} -c "{eat}"')

    job = cluster.submit(script, "--mem=100M", "--output=out", cwd=tmp_path)
    state = cluster.wait(job, 60)

    assert state in ("FAILED", "OUT_OF_MEMORY", "CANCELLED")
    assert "memory limit" in (tmp_path / "out").read_text()


def test_a_requeued_job_restarts(cluster: PracticeCluster, tmp_path: Path) -> None:
    job = cluster.submit(
        batch("echo start", FIRST_START_LASTS), "--open-mode=append", "--output=out", cwd=tmp_path
    )
    wait_until(lambda: "start" in read(tmp_path / "out"), 60, "the job has begun")

    cluster.run(["scontrol", "requeue", job])
    state = cluster.wait(job, 90)

    assert state == "COMPLETED"
    assert cluster.show(job)["Restarts"] == "1"
    assert (tmp_path / "out").read_text().count("start") == 2


def test_an_urgent_job_preempts_another_which_then_restarts(
    cluster: PracticeCluster, tmp_path: Path
) -> None:
    whole = ["--nodes=2", "--exclusive"]
    script = batch(FIRST_START_LASTS)
    cluster.run(["scontrol", "update", "partitionname=work", "GraceTime=0"])
    victim = cluster.submit(script, *whole, cwd=tmp_path)
    cluster.wait_for_state(victim, "RUNNING")

    urgent = cluster.submit(batch("true"), *whole, "--partition=urgent", cwd=tmp_path)
    urgent_state = cluster.wait(urgent, 90)
    victim_state = cluster.wait(victim, 90)

    assert (urgent_state, victim_state) == ("COMPLETED", "COMPLETED")
    assert cluster.show(victim)["Restarts"] == "1"


def test_sacct_shows_the_columns_of_the_course(cluster: PracticeCluster, tmp_path: Path) -> None:
    burn = "import time; t = time.time()\nwhile time.time() < t + 2: pass"
    (tmp_path / "burn.py").write_text(burn)
    fields = "Elapsed,TotalCPU,State,MaxRSS,ReqMem,NodeList"
    script = batch(f"srun {sys.executable} burn.py")

    job = cluster.submit(script, "--nodes=2", "--mem=200M", cwd=tmp_path)
    cluster.wait(job)
    wait_until(
        lambda: cluster.sacct(job, "State")[job]["State"] == "COMPLETED",
        30,
        "the accounting knows the end",
    )

    rows = cluster.sacct(job, fields)
    assert rows[job]["State"] == "COMPLETED"
    assert rows[job]["Elapsed"] >= "00:00:02"
    assert rows[job]["TotalCPU"] > "00:00.000"
    assert rows[job]["ReqMem"].startswith(("200M", "400M"))
    assert rows[job]["NodeList"] == "node[1-2]"
    assert rows[f"{job}.0"]["MaxRSS"].endswith("K")


def test_fake_gpus_are_handed_out(cluster: PracticeCluster) -> None:
    both = cluster.run(["srun", "--gres=gpu:2", "printenv", "CUDA_VISIBLE_DEVICES"])
    one = cluster.run(["srun", "--gres=gpu:1", "printenv", "CUDA_VISIBLE_DEVICES"])

    assert both.strip() == "0,1"
    assert one.strip() == "0"


def test_impossible_requests_are_refused_before_they_wait(cluster: PracticeCluster) -> None:
    for request in ["--nodes=3", "--partition=nope", "--gres=gpu:3", "--mem=9999G"]:
        command = ["sbatch", "--test-only", request, "--wrap=true"]
        done = subprocess.run(command, env=cluster.env, capture_output=True, text=True)

        assert done.returncode == 1, request


def test_a_port_in_use_is_replaced(observed: Observed, another: PracticeCluster) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", observed.port))
        taken.listen()
        another.up()

    assert another.practice("check").returncode == 0


def test_a_daemon_that_cannot_start_shows_its_log_and_leaves_nothing(
    another: PracticeCluster,
) -> None:
    table_space = another.state / "mariadb" / "ibdata1"
    intact = table_space.read_bytes()
    table_space.write_bytes(b"garbage")

    done = another.practice("up")
    table_space.write_bytes(intact)

    assert done.returncode == 1
    assert "mariadbd ended at once" in done.stderr
    shows("practice-cluster", "the last lines of", done.stderr)
    assert "Traceback" not in done.stderr
    assert another.processes() == {}


def test_a_folder_that_is_not_ours_is_left_alone(short_folder: Path) -> None:
    (short_folder / "thesis.tex").touch()
    short_folder.chmod(0o755)

    done = PracticeCluster(short_folder).practice("up")

    assert done.returncode == 1
    assert "choose an empty folder with --state" in done.stderr
    assert short_folder.stat().st_mode & 0o777 == 0o755
    assert [path.name for path in short_folder.iterdir()] == ["thesis.tex"]


def test_a_folder_that_cannot_be_created_is_reported_in_one_sentence(short_folder: Path) -> None:
    (short_folder / "file").touch()

    done = PracticeCluster(short_folder / "file" / "state").practice("up")

    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "choose another folder with --state" in done.stderr


@pytest.mark.parametrize("command", ["install", "up"])
def test_another_slurm_is_left_alone(short_folder: Path, command: str) -> None:
    site = short_folder / "slurm.conf"
    site.write_text("ClusterName=site\n")
    stranger = PracticeCluster(short_folder / "state", extra={"SLURM_CONF": str(site)})

    done = stranger.practice(command)

    assert done.returncode == 1
    assert f"{site} configures another Slurm" in done.stderr
    assert not stranger.state.exists()


@pytest.mark.parametrize("command", ["check", "env"])
def test_a_cluster_that_is_not_up_says_how_to_start_it(short_folder: Path, command: str) -> None:
    done = PracticeCluster(short_folder / "state").practice(command)

    assert done.returncode == 1
    assert done.stdout == ""
    assert "start it with cluster/practice up" in done.stderr
