"""run.py of lessons 4 and later on the practice cluster: make test."""

import re
import shutil
import sys

import pytest
from course import ROOT, epochs, final_accuracy
from desk import Site

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

BRANCHES = [path.stem for path in sorted((ROOT / "lessons").glob("[4-8]-*.txt"))]
# the last one on MNIST, which a job learns in seconds
NEWEST = BRANCHES[1]


@pytest.fixture(scope="module")
def site(practice_cluster, module_clone):
    """The practice cluster as the login node of the clone."""
    practice_cluster.heal()
    return Site(practice_cluster, module_clone)


@pytest.fixture
def desk(site):
    site.clone.git("switch", "--quiet", NEWEST)
    shutil.rmtree(site.clone.folder / "logs", ignore_errors=True)
    return site


@pytest.mark.parametrize("branch", BRANCHES)
def test_run_py_submits_a_job_that_trains_to_the_end(site, branch):
    site.clone.git("switch", "--quiet", branch)
    shutil.rmtree(site.folder / "logs", ignore_errors=True)

    [job] = site.launched()
    state = site.wait(job, timeout=400)

    log = site.log(job)
    assert state == "COMPLETED", log + site.log(job, "err")
    assert len(epochs(log)) == 10
    on_mnist = branch < "6"
    # the sample for CIFAR-10 is hard: chance is 0.1, and lesson 6 has no convolutions yet
    assert final_accuracy(log) > (0.9 if on_mnist else 0.15 if branch < "7" else 0.4)
    logs = site.folder / f"logs/{'mnist' if on_mnist else 'cifar10'}"
    names = {"slurm_out_logs", "slurm_err_logs", "slurm_scripts", "version_0"}
    assert {path.name for path in logs.iterdir()} == names
    assert list(logs.glob("version_0/checkpoints/*.ckpt"))
    assert list(logs.glob("version_0/events.out.tfevents.*"))


def test_a_second_launch_has_folders_of_its_own(desk):
    jobs = [*desk.launched("--max_epochs=1"), *desk.launched("--max_epochs=1")]

    states = [desk.wait(job, timeout=180) for job in jobs]

    assert states == ["COMPLETED", "COMPLETED"]
    assert desk.log(jobs[0]).count("epoch  1/1") == 1
    for version in (0, 1):
        folder = desk.folder / f"logs/mnist/version_{version}"
        assert len(list(folder.glob("checkpoints/*.ckpt"))) == 1


def test_trials_differ_in_their_learning_rate(desk):
    jobs = desk.launched("--nb_trials=2", "--max_epochs=1")

    states = [desk.wait(job, timeout=180) for job in jobs]

    assert states == ["COMPLETED", "COMPLETED"]
    rates = [
        re.search("learning_rate: (.*)", path.read_text())[1]
        for path in sorted(desk.folder.glob("logs/mnist/version_*/hparams.yaml"))
    ]
    assert len(set(rates)) == 2


def test_a_log_path_with_spaces_reaches_slurm_unchanged(desk):
    [job] = re.findall(
        r"^job (\d+)", desk.launch("--max_epochs=1", "--log_path=logs/a b,c=d").stdout
    )

    state = desk.wait(job, timeout=180)

    [log] = desk.folder.glob(f"logs/a b,c=d/mnist/slurm_out_logs/*_{job}.out")
    assert state == "COMPLETED"
    assert "epoch  1/1" in log.read_text()


def test_a_site_that_exports_no_environment_trains_all_the_same(desk):
    site = desk.folder / "site.sh"
    site.write_text(f"export VENV={sys.prefix}\n")

    [job] = desk.launched("--max_epochs=1", SBATCH_EXPORT="NONE")
    state = desk.wait(job, timeout=180)
    site.unlink()

    assert state == "COMPLETED", desk.log(job, "err")
