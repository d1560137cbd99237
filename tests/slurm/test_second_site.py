"""All lessons at a second site, where only site.sh is written: make test."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from clone import ROOT, make_clone
from login_node import SlurmLoginNode
from practice_cluster import require_packages, wait_until
from second_site import SecondSite

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

BRANCHES = {int(path.stem.partition("-")[0]): path.stem for path in ROOT.glob("lessons/*.txt")}
# one job of each generation of run.py that trains to its end
SHORT = "--max_epochs=1 --arch=fully_connected"
TRAINED = {
    5: "python run.py --max_epochs=1",
    7: f"python run.py {SHORT}",
    8: f"python run.py {SHORT} --num_nodes=2",
    10: "python run.py trainer.max_epochs=1 network=fully_connected",
    # last: unlike the others, this job runs the program of the branch
    9: f"sbatch --nodes=1 --ntasks-per-node=1 run.sh {SHORT}",
}
# the other documented commands: Slurm accepts the job
ACCEPTED = {
    2: "sbatch --hold run.sh",
    3: "sbatch --hold run.sh",
    4: "python run.py -- --hold",
    6: "python run.py --dataset=mnist -- --hold",
    8: "python run.py --num_nodes=2 --devices=2 --accelerator=gpu -- --hold",
    9: "sbatch --hold --nodes=2 --ntasks-per-node=1 run.sh --max_epochs=1",
    10: "sbatch --hold run.sh experiment=mnist_fully_connected",
}
CLASS = 25
JOB = re.compile(r"^(?:Submitted batch job|job) (\d+)(?: ->| on cluster practice$)", re.MULTILINE)


class LoginNode(SlurmLoginNode):
    """The login node of the second site: a shell that has read site.sh."""

    def __init__(self, site, clone):
        super().__init__(site, clone)
        del self.env["VENV"]
        self.env["PATH"] = f"{Path(sys.executable).parent}:{self.env['PATH']}"

    def shell(self, command, **kwargs):
        text = f"source site.sh\n{command}"
        return self.clone.run("bash", "-c", text, env=self.env, **kwargs)

    def submit_jobs(self, lesson, command):
        """Run a command of a lesson, and return the ids of its jobs."""
        self.clone.git("switch", "--quiet", BRANCHES[lesson])
        done = self.shell(command)
        assert done.returncode == 0, done.stdout + done.stderr
        return JOB.findall(done.stdout)

    def wait_for_line(self, job, pattern):
        log = Path(self.show(job)["StdOut"])
        wait_until(
            lambda: log.exists() and re.search(pattern, log.read_text()), 120, f"{pattern} in {log}"
        )


@pytest.fixture(scope="module")
def site(tmp_path_factory, sample_data):
    require_packages(tmp_path_factory)
    folder = Path(tempfile.mkdtemp(prefix="second-site-"))
    # a read-only folder is not read-only for root, unless its jobs lack these privileges
    privileges = "-dac_override,-dac_read_search,-fowner"
    prefix = ["setpriv", f"--bounding-set={privileges}"] if os.getuid() == 0 else []
    site = SecondSite(folder, prefix)
    try:
        site.write()
        shutil.copytree(sample_data, site.data)
        subprocess.run(["chmod", "--recursive", "a-w", site.data], check=True)
        site.up()
        yield site
    finally:
        site.down()
        subprocess.run(["chmod", "--recursive", "u+w", folder], check=True)
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def node(site, course, sample_data):
    """A clone in a folder with spaces, whose only own file is site.sh."""
    clone = make_clone(course, sample_data, site.folder / "home", site.scratch / "hpc starter")
    for name in ("MNIST", "cifar-10-batches-py"):
        shutil.rmtree(clone.folder / "data" / name)
    (clone.folder / "site.sh").write_text(site.site_sh())
    return LoginNode(site, clone)


@pytest.fixture(scope="module")
def first(node):
    """The job of lesson 1, which has ended, and its id."""
    [job] = node.submit_jobs(1, "sbatch run.sh")
    node.wait(job)
    return job


@pytest.fixture(scope="module")
def trained(node, first):
    """Return lesson -> id of its job; all of them run at the same time."""
    jobs = {}
    for lesson, command in TRAINED.items():
        [jobs[lesson]] = node.submit_jobs(lesson, command)
    node.wait(jobs[9], 300)
    return jobs


# --- the site


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("-A course-7", "No partition specified or system default partition"),
        ("-p standard", "name your account"),
        ("-p standard -A nope", "Invalid account or account/partition combination"),
        ("-p standard -A course-7 --mem=1G", "--mem is not supported here"),
        ("-p standard -A course-7 --time=60", "Requested time limit is invalid"),
        ("-p standard -A course-7 --gres=gpu:1", "name the type of the GPUs"),
        ("-p standard -A course-7 --gres=gpu:v100:1", "Batch job submission failed"),
    ],
)
def test_the_site_refuses_what_site_sh_must_set(site, options, message):
    done = subprocess.run(
        ["sbatch", *options.split(), "--wrap=true"],
        env=site.env,
        cwd=site.scratch,
        text=True,
        capture_output=True,
    )

    assert done.returncode == 1
    assert message in done.stderr


def test_no_job_can_write_to_the_shared_data(site):
    options = ["--account=course-7", "--partition=standard"]

    site.run(["srun", *options, "test", "!", "-w", str(site.data / "MNIST/raw")])


# --- the lessons


def test_check_passes_after_lesson_1(node, first):
    node.clone.git("switch", "--quiet", BRANCHES[1])

    done = node.shell("python check.py")

    assert f"PASS 3/3: lesson 1 (slurm.{first}.out)" in done.stdout, done.stdout


def test_the_class_view_shows_the_jobs_of_this_site(node, first):
    node.clone.git("switch", "--quiet", "main")

    done = node.shell("make --silent class")

    [row] = [line.split() for line in done.stdout.splitlines() if first in line]
    assert "COMPLETED" in row
    assert "sacct" not in done.stdout


@pytest.mark.parametrize("lesson", TRAINED)
def test_the_job_of_a_lesson_trains_to_its_end(node, trained, lesson):
    state = node.wait(trained[lesson], 300)

    shown = node.show(trained[lesson])
    log = Path(shown["StdOut"].replace("%j", trained[lesson]))
    assert state == "COMPLETED", log.read_text() + node.log(trained[lesson], "err")
    assert "test loss" in log.read_text()
    assert shown["NumNodes"] == ("2" if lesson == 8 else "1")


@pytest.mark.parametrize("lesson", ACCEPTED)
def test_the_other_commands_are_accepted(node, first, lesson):
    [job] = node.submit_jobs(lesson, ACCEPTED[lesson])
    shown = node.show(job)
    seen = node.shell("python check.py").stdout
    node.run(["scancel", job])

    assert (shown["JobState"], shown["TimeLimit"]) == ("PENDING", "00:30:00")
    assert (shown["Partition"], shown["Account"]) == ("standard", "course-7")
    assert shown["MinMemoryNode"] == "0"
    assert ("gpu:a100:2" in shown.get("TresPerNode", "")) == ("gpu" in ACCEPTED[lesson])
    if lesson < 4:
        assert f"job {job} is PENDING (slurm.{job}.out)" in seen


def test_a_job_with_gpus_that_pytorch_cannot_see_says_so(node):
    [job] = node.submit_jobs(10, "python run.py trainer.accelerator=gpu")

    state = node.wait(job)
    log = node.log(job) + node.log(job, "err")

    assert state == "FAILED", log
    assert "trainer.accelerator=gpu: PyTorch sees no GPU here; use " in log
    assert "Traceback" not in log


def test_a_run_continues_in_several_jobs(node, trained):
    node.wait(trained[10], 300)
    folder = Path(node.show(trained[10])["StdOut"]).parent.relative_to(node.folder)

    [job] = node.submit_jobs(10, f"python run.py --resume {folder} trainer.max_epochs=5000")
    node.wait_for_line(job, "epoch +2/5000")
    node.run(["scancel", "--signal=USR1", job])
    wait_until(lambda: node.show(job)["Restarts"] == "1", 120, "the job is requeued")
    node.wait_for_restart(job)
    node.wait_for_line(job, r"(?s)continues from .*continues from ")
    node.run(["scancel", job])
    node.wait(job)


# --- a class


def at_once(commands):
    """Run commands at the same time, and return what they printed."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    started = [subprocess.Popen(["bash", "-c", text], **pipes, **where) for text, where in commands]
    printed = [process.communicate()[0] for process in started]
    assert [process.returncode for process in started] == [0] * len(started), printed
    return printed


def held_jobs(node, name):
    """Return id -> log of the jobs that wait, and cancel them."""
    shown = node.run(["squeue", "--noheader", "--Format=JobID:30,STDOUT:300", f"--name={name}"])
    jobs = dict(line.split(maxsplit=1) for line in shown.splitlines())
    node.run(["scancel", *jobs])
    return {job: log.strip() for job, log in jobs.items()}


def test_twenty_five_launches_at_once_from_one_clone(node, trained):
    node.clone.git("switch", "--quiet", BRANCHES[10])
    command = "source site.sh; python run.py experiment_name=class -- --hold"

    printed = at_once([(command, {"cwd": node.folder, "env": node.env})] * CLASS)

    jobs = held_jobs(node, "class")
    folders = {f"logs/class/version_{number}" for number in range(CLASS)}
    said = [re.search(r"^job (\d+) -> (\S+)$", text, re.MULTILINE).groups() for text in printed]
    assert {job for job, _ in said} == jobs.keys()
    assert {folder for _, folder in said} == folders
    assert {
        str(path.relative_to(node.folder)) for path in node.folder.glob("logs/class/*")
    } == folders
    for job, folder in said:
        assert jobs[job] == f"{node.folder}/{folder}/job.out"
        assert f'--comment="{folder}"' in (node.folder / folder / "job.sh").read_text()


def test_twenty_five_people_launch_at_once_from_their_own_clones(site, node, first):
    places = [site.scratch / "class" / f"user {number}" for number in range(CLASS)]
    for place in places:
        node.clone.git("clone", "--quiet", "--branch", BRANCHES[4], str(node.folder), str(place))
        shutil.copy(node.folder / "site.sh", place)
    command = "source site.sh; python run.py --experiment_name=class -- --hold"

    printed = at_once([(command, {"cwd": place, "env": node.env}) for place in places])

    jobs = held_jobs(node, "class")
    said = {JOB.search(text)[1]: place for text, place in zip(printed, places, strict=True)}
    assert said.keys() == jobs.keys()
    for job, place in said.items():
        assert jobs[job].startswith(f"{place}/logs/class/slurm_out_logs/version_0_")
        assert [path.name for path in place.glob("logs/class/version_*")] == ["version_0"]


def test_a_lesson_can_be_started_again(node, first):
    done = node.shell("python3 start_lesson.py 3")

    assert done.returncode == 0, done.stderr
    assert node.clone.git("branch", "--show-current").strip() == BRANCHES[3]
