"""make preflight: each row is made to fail, on a login node with a fake Slurm: make test-fast."""

import functools
import inspect
import os
import re
import selectors
import shlex
import shutil
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import preflight
import pytest
from site_checks import judge, lesson_jobs, login_node, node, probe, training
from site_checks.report import FAIL, HIDDEN, PASS, SKIPPED, WARN, Answer, Report, answer_of
from site_checks.site_file import check_settings, check_site
from site_checks.slurm import Partition, check_slurm

from clone import ROOT
from login_node import FakeLoginNode
from practice_cluster import wait_until

# the replies of a healthy Slurm 23.02
PARTITIONS = """PartitionName=cpu Default=YES MaxTime=1-00:00:00 State=UP Nodes=n[1-4]
PartitionName=gpu Default=NO MaxTime=00:30:00 State=UP Nodes=g[1-2]"""
FAKES = {
    # refuses what a line of $RECORD/refuse matches: <pattern>|<what sbatch says>
    "sbatch": """
asked="$* SBATCH_ACCOUNT=$SBATCH_ACCOUNT $(cat "${@: -1}")"
while IFS='|' read -r pattern sentence; do
    if grep -qe "$pattern" <<<"$asked"; then
        echo "sbatch: error: Batch job submission failed: $sentence" >&2
        exit 1
    fi
done < <(cat "$RECORD/refuse" 2>/dev/null)
echo "sbatch: Job 7 to start at 2031-02-03T09:00:00 using 1 processors on n1 in cpu" >&2
case $* in *--test-only*) ;; *) echo 7 ;; esac
""",
    "scontrol": """
case $* in
    --version) echo slurm 23.02.6 ;;
    ping) cat "$RECORD/ping" 2>/dev/null || echo "Slurmctld(primary) at head is UP" ;;
    *partition*) cat "$RECORD/partitions" ;;
    *reservation*) cat "$RECORD/reservations" 2>/dev/null ;;
esac
""",
    "sinfo": """cat "$RECORD/nodes" """,
    "squeue": """cat "$RECORD/queue" 2>/dev/null || echo "JOBID PARTITION NAME" """,
    "sacct": "",
    "sacctmgr": "",
    "scancel": 'echo "$*" >>"$RECORD/cancelled"',
    "srun": "",
}
MEMORY = "Memory specification can not be satisfied"
LIMIT = "Requested time limit is invalid (missing or exceeds some limit)"
NODES = "Node count specification invalid"

SELECT = selectors.DefaultSelector.select

made_to_fail: dict[str, set[str]] = {}
seen: set[str] = set()


def fails(*rows):
    """Note which rows a test makes fail, and check that it has seen them."""

    def decorate(test):
        for row in rows:
            made_to_fail.setdefault(row, set()).add(test.__name__)

        @functools.wraps(test)
        def checked(*args, **kwargs):
            seen.clear()
            test(*args, **kwargs)
            assert seen & set(rows), f"none of {rows} has failed"

        return checked

    return decorate


def failed(report, row, *words, state=FAIL):
    """Check that a row has failed with a cure, and what it says."""
    [found] = [one for one in report.rows if one.name == row]
    text = f"{found.found} {found.cure}"
    assert found.state == state, found
    assert found.cure, f"{row} has no cure"
    for word in words:
        assert word in text
    seen.add(row)


def states(report):
    return {row.name: row.state for row in report.rows}


class Bench:
    """A clone on a login node with a fake Slurm."""

    def __init__(self, fake):
        self.fake, self.report = fake, Report(fake.folder)
        self.report.env = fake.env
        for name, text in FAKES.items():
            fake.install(name, f"#!/bin/bash\n{text}")
        self.say("partitions", PARTITIONS)
        self.say("nodes", "n1 idle (null)\nn2 mix (null)\nn3 down* (null)\n")

    def say(self, file, text):
        """Change what a fake command answers."""
        (self.fake.record / file).write_text(text)

    def site(self, text=""):
        """Write site.sh, and read it as preflight does."""
        if text:
            Path("site.sh").write_text(text)
        return check_site(self.report)

    def slurm(self, text=""):
        """Return the rows about Slurm with this site.sh."""
        site = self.site(text)
        Path("logs").mkdir(exist_ok=True)
        check_slurm(self.report, site, Path("logs"))
        return self.report

    def jobs(self, trees, text="", gres="gpu:2"):
        """Return the rows about the jobs of the lessons."""
        site = self.site(text)
        for tree in trees.values():
            (tree / "site.sh").unlink(missing_ok=True)
            lesson_jobs.link_site_files(tree)
        partition = Partition({"PartitionName": "cpu", "MaxTime": "1-00:00:00"}, 2, gres)
        lesson_jobs.check_lesson_jobs(self.report, site, partition, trees, sys.executable)
        return self.report

    def probe(self, wait=0.0):
        """Return the probe job, and its outcome."""
        folder = Path("logs/preflight-test")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        job = probe.Probe(self.report, self.site(), folder)
        return job, job.run(wait)


@pytest.fixture
def bench(module_clone, tmp_path, monkeypatch):
    monkeypatch.chdir(module_clone.folder)
    fake = FakeLoginNode(module_clone, tmp_path)
    for name in ("PATH", "RECORD", "VENV"):
        monkeypatch.setenv(name, fake.env[name])
    monkeypatch.setattr(probe, "LATE", 0.0)
    yield Bench(fake)
    Path("site.sh").unlink(missing_ok=True)


@pytest.fixture(scope="module")
def trees(module_clone, tmp_path_factory):
    """The files of lessons 1, 3 and 8, as preflight exports them, and the scripts of their jobs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(module_clone.folder)
        found = lesson_jobs.export_lessons(Report(ROOT), tmp_path_factory.mktemp("trees"))
    assert sorted(found) == list(range(1, 11))
    return {number: found[number] for number in (1, 3, 8)}


@pytest.fixture(scope="module")
def shapes(trees):
    return lesson_jobs.find_shapes(Report(ROOT), trees, sys.executable)


@pytest.fixture
def same_shapes(shapes, monkeypatch):
    """The jobs of the lessons, which run.py writes only once for all tests."""
    monkeypatch.setattr(lesson_jobs, "find_shapes", lambda *_: shapes)


# --- this folder, the login node, site.sh


@fails("this folder")
def test_a_folder_that_cannot_be_written_to(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("logs").write_text("a file in the way")
    report = Report(tmp_path)

    folder = preflight.make_folder(report)

    assert folder is None
    failed(report, "this folder", "cannot be written to", "clone the course into a folder")


@fails("tools")
@pytest.mark.parametrize(
    ("fakes", "words"),
    [
        ({"make": "", "python3": ""}, ["not found: git"]),
        ({"git": "echo git version 2.39", "make": "", "python3": "echo Python 3.6.8"}, ["3.6.8"]),
    ],
)
def test_tools_that_are_missing_or_too_old(bench, tmp_path, fakes, words):
    folder = tmp_path / "old"
    folder.mkdir()
    for name, text in fakes.items():
        (folder / name).write_text(f"#!/bin/sh\n{text or 'echo GNU Make 4.3'}\n")
        (folder / name).chmod(0o755)
    bench.report.env = {**bench.fake.env, "PATH": str(folder)}

    login_node.check_tools(bench.report, str(folder))

    failed(bench.report, "tools", *words)


@fails("lesson branches")
def test_branches_that_have_not_been_built(bench, course, tmp_path, monkeypatch):
    course.git("clone", "--quiet", str(course.folder), str(tmp_path / "bare"))
    monkeypatch.chdir(tmp_path / "bare")

    login_node.check_branches(bench.report)

    failed(bench.report, "lesson branches", "10 of 10 are missing", "make lessons")


@pytest.mark.parametrize("name", ["9x.txt", "2 copy.txt", "10.txt"])
def test_a_stray_file_is_no_lesson_branch(bench, course, tmp_path, monkeypatch, name):
    course.git("clone", "--quiet", str(course.folder), str(tmp_path / "bare"))
    monkeypatch.chdir(tmp_path / "bare")
    Path("lessons", name).touch()

    login_node.check_branches(bench.report)

    failed(bench.report, "lesson branches", "10 of 10 are missing")


@fails("Python here")
def test_a_login_node_without_a_python_for_run_py(bench, monkeypatch, tmp_path):
    old = tmp_path / "old/python3"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    site = bench.site("export VENV=/nowhere\n")
    site.env["PATH"] = str(old.parent)
    monkeypatch.setattr(login_node, "sys", SimpleNamespace(executable=str(old)))

    login_node.check_python(bench.report, site)

    failed(bench.report, "Python here", "no Python 3.11", "make setup VENV=/nowhere")


def test_a_login_node_without_the_packages(bench, monkeypatch, tmp_path):
    python = tmp_path / "bare/python3"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\ncase $* in *hydra*) exit 1 ;; esac\n")
    python.chmod(0o755)
    monkeypatch.delenv("VENV")
    site = bench.site('export PYTHON="apptainer exec image.sif python"\n')
    site.env["PATH"] = str(python.parent)
    monkeypatch.setattr(login_node, "sys", SimpleNamespace(executable=str(python)))

    assert login_node.check_python(bench.report, site)

    words = ["python3 runs run.py of lessons 4 to 9, and check.py", "lesson 10, TensorBoard"]
    words += ["several trials (--nb_trials)", "and activate it: make setup TORCH=cpu"]
    failed(bench.report, "Python here", *words, state=WARN)


@fails("site.sh")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("export VENV='env\n", ["unexpected EOF", "site.sh cannot be read", "bash -n site.sh"]),
        ("cd /nowhere\nexit 0\n", ["remove the exit from site.sh"]),
        ("export VENV=env\nset -eu\n", ["line 2 is 'set -eu'", "remove it"]),
        ("set -o nounset\n", ["line 1 is 'set -o nounset'"]),
        ("export VENV=env\r\n", ["format of Windows", "sed -i"]),
    ],
)
def test_a_site_sh_that_would_end_shells(bench, text, words):
    bench.site(text)

    failed(bench.report, "site.sh", *words)


@fails("site.sh")
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (Path.mkdir, "site.sh is a folder"),
        (lambda path: path.symlink_to("nowhere"), "a link that leads to no file"),
        (lambda path: path.symlink_to(path.name), "a link that leads to no file"),
        (os.mkfifo, "site.sh is not a file"),
    ],
)
def test_a_site_sh_that_is_not_a_file(bench, make, words):
    path = Path("site.sh")
    make(path)
    try:
        assert bench.site() is None
    finally:
        path.rmdir() if path.is_dir() else path.unlink()

    failed(bench.report, "site.sh", words, "cp site.example.sh site.sh")


@fails("site.sh")
def test_a_site_sh_that_does_not_end(bench, monkeypatch, capsys):
    monkeypatch.setattr("site_checks.site_file.TIMEOUT", 0.2)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)

    assert bench.site("sleep 1000\n") is None

    failed(bench.report, "site.sh", "site.sh did not end within 0 s", "the line that waits")
    assert "reading site.sh" in capsys.readouterr().out


@fails("site.sh")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("exec true", ["has replaced or ended the shell", "remove the exec"]),
        ("trap - EXIT; exit 0", ["has replaced or ended the shell"]),
        ("exec 2>/dev/null; trap - EXIT; exit 3", ["(exit code 3), without a message"]),
        ("kill -9 $$", ["(signal SIGKILL), without a message", "exit or kill"]),
        ("unset PATH", ["a PATH without the system's programs: ''", "=/my/folder:$PATH"]),
        ("PATH=/nowhere", ["a PATH without the system's programs: '/nowhere'"]),
    ],
)
def test_a_site_sh_that_leaves_no_shell_or_no_programs(bench, text, words):
    assert bench.site(f"{text}\n") is None

    failed(bench.report, "site.sh", *words)


def test_a_site_sh_that_redefines_what_preflight_uses(bench):
    site = bench.site("printf() { :; }\nenv() { :; }\nexport SBATCH_ACCOUNT=ml\n")

    assert site.env["SBATCH_ACCOUNT"] == "ml"


@fails("controller")
def test_a_command_that_a_signal_ends(bench):
    bench.fake.install("scontrol", "#!/bin/bash\nkill -SEGV $$\n")

    failed(bench.slurm(), "controller", "does not answer: signal SIGSEGV")


@fails("settings")
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("export PYTHN=python3", ["PYTHN, which nothing reads", "write PYTHON instead"]),
        ("SBATCH_PARTITION=cpu", ["without export", "write: export SBATCH_PARTITION=cpu"]),
        ("export GRES=gpu DATADIR=/data", ["write DATA_DIR instead of DATADIR"]),
        ("GRES=gpu:a100:1", ["GRES=gpu:a100:1 contains a count", "write: export GRES=gpu:a100"]),
        ("export SBATCH_TIMELIMIT='30 minutes'", ["30 minutes is not a time", "00:30:00"]),
        ("GRES=gpu:2", ["write: export GRES=gpu"]),
    ],
)
def test_settings_that_nothing_reads(bench, line, words, monkeypatch):
    monkeypatch.setenv("SBATCH_PARTITION", "cpu")  # sourced before, in this shell
    site = bench.site(f"# export NOTHING=1\n{line}\n")

    check_settings(bench.report, site)

    failed(bench.report, "settings", *words)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("export SBATCH_TIME=30", ["did you mean SBATCH_TIMELIMIT?"]),
        ("export SBATCH_XYZ=1", ["man sbatch", "remove SBATCH_XYZ"]),
        ("export NO_MEM=no", ["NO_MEM=no has the effect of yes", "remove the line NO_MEM"]),
        ("export PYTHON=python3 VENV=env", ["sets both PYTHON and VENV"]),
        (
            """export PYTHON='"/x y/container" exec i.sif python'""",
            ["contains quotes", 'export PYTHON="/x y/container exec i.sif python"'],
        ),
        (r"export PYTHON='/x\ y/python'", ["or a backslash", 'PYTHON="/x y/python"']),
    ],
)
def test_settings_that_may_be_a_mistake(bench, lines, words):
    site = bench.site(f"{lines}\n")

    check_settings(bench.report, site)

    failed(bench.report, "settings", *words, state=WARN)


@pytest.mark.parametrize(
    "text",
    [
        'export PYTHON="apptainer exec --nv image.sif python"\nexport APPTAINER_BIND=/data\n',
        "module() { :; }\nmodule load python/3.11\nexport VENV=$HOME/env PATH=/opt/bin:$PATH\n",
        'export PYTHON="env DATA_DIR=/x python"\n',
        "export SBATCH_TIMELIMIT=1-12:30 NO_MEM=true\n",
        "GRES=gpu:a100\nif true; then export SBATCH_ACCOUNT=ml; fi\n",
        "",
    ],
)
def test_settings_of_a_good_site_sh(bench, text):
    site = bench.site(text)

    check_settings(bench.report, site)

    assert states(bench.report) == {"site.sh": PASS, "settings": PASS}


# --- Slurm


@fails("Slurm's commands")
@pytest.mark.parametrize("missing", ["sbatch", "sacct"])
def test_a_machine_without_slurms_commands(bench, missing, tmp_path):
    there = tmp_path / "there"
    there.mkdir()
    for name in (*FAKES, "bash", "env", "git"):
        if name != missing:
            source = bench.fake.bin / name if name in FAKES else Path(shutil.which(name))
            (there / name).symlink_to(source)

    report = bench.slurm(f"export PATH={there}\n")

    cure = "on a login node of the cluster; on a laptop" if missing == "sbatch" else "to PATH"
    failed(report, "Slurm's commands", missing, cure)


@fails("controller")
def test_a_controller_that_is_down(bench):
    bench.say("ping", "Slurmctld(primary) at head is DOWN\n")

    failed(bench.slurm(), "controller", "is DOWN", "help desk")


@fails("controller")
def test_a_cluster_that_is_misspelt(bench):
    said = "scontrol: error: No cluster 'practise' known by database."
    bench.fake.install("scontrol", f'#!/bin/sh\necho "{said}" >&2; exit 1\n')
    bench.fake.install("sacctmgr", '#!/bin/sh\necho "  practice"; echo "  gpus"\n')

    report = bench.slurm("export SLURM_CLUSTERS=practise\n")

    cure = "export SLURM_CLUSTERS=<name>, with one of: practice, gpus"
    failed(report, "controller", "No cluster 'practise' known", cure)


def test_a_long_reply_ends_with_a_whole_word(bench):
    bench.say("refuse", f"test-only|{'Unspecified ' * 99}\n")

    report = bench.slurm()

    failed(report, "short job", "Unspecified ...")
    assert set(report.rows[-1].found.split()) == {"sbatch:", "Unspecified", "..."}


def test_the_greeting_of_a_site_is_not_shown(bench):
    bench.say("ping", f"{'Welcome! ' * 99}\nSlurmctld(primary) at head is UP\n{'*' * 99}\n")

    report = bench.slurm()

    assert "slurm 23.02.6: Slurmctld(primary) at head is UP" in [row.found for row in report.rows]


@fails("squeue", "sacct")
def test_commands_that_do_not_know_the_options_of_the_pages(bench):
    bench.fake.install("squeue", "#!/bin/sh\necho squeue: unrecognized option --me >&2; exit 1\n")
    said = "Slurm accounting storage is disabled"
    bench.fake.install("sacct", f"#!/bin/sh\necho {said} >&2; exit 1\n")

    report = bench.slurm()

    failed(report, "squeue", "unrecognized option", "--user=$USER")
    failed(report, "sacct", said, "scontrol show job", state=WARN)


@fails("partition")
@pytest.mark.parametrize(
    ("text", "nodes", "words", "state"),
    [
        ("export SBATCH_PARTITION=cpus\n", "", ["no partition cpus", "cpu, gpu"], FAIL),
        ("", "n1 drain (null)\nn2 down* (null)\n", ["usable nodes: 0", "--list-reasons"], FAIL),
        ("", "n1 idle~ gpu:2\nn2 idle* gpu:2\n", ["usable nodes: 1", "two nodes"], WARN),
    ],
)
def test_a_partition_that_cannot_run_the_lessons(bench, text, nodes, words, state):
    if nodes:
        bench.say("nodes", nodes)

    failed(bench.slurm(text), "partition", *words, state=state)


@fails("partition")
def test_a_partition_that_is_down(bench):
    bench.say("partitions", PARTITIONS.replace("State=UP", "State=DOWN"))

    failed(bench.slurm(), "partition", "state DOWN", "export SBATCH_PARTITION=")


@fails("partition")
def test_a_partition_that_the_shell_has_kept(bench, monkeypatch):
    monkeypatch.setenv("SBATCH_PARTITION", "old")

    failed(bench.slurm(), "partition", "no partition old", "unset SBATCH_PARTITION")


@fails("account", "QOS", "reservation", "short job")
@pytest.mark.parametrize(
    ("row", "line", "sentence", "words"),
    [
        (
            "account",
            "",
            "Invalid account or account/partition combination specified",
            ["sets no SBATCH_ACCOUNT", "export SBATCH_ACCOUNT=", "sacctmgr"],
        ),
        ("QOS", "export SBATCH_QOS=fast", "Invalid qos specification", ["SBATCH_QOS=fast"]),
        (
            "reservation",
            "export SBATCH_RESERVATION=workshop",
            "Requested reservation is invalid",
            ["SBATCH_RESERVATION=workshop", "remove export SBATCH_RESERVATION"],
        ),
        (
            "short job",
            "",
            "User's group not permitted to use this partition",
            ["group not permitted", "export SBATCH_PARTITION=<name>"],
        ),
        ("short job", "", "Unspecified error", ["Unspecified error", "sinfo"]),
        ("account", "", "name your account: --account=...", ["export SBATCH_ACCOUNT=<name>"]),
    ],
)
def test_a_job_that_slurm_refuses(bench, row, line, sentence, words):
    bench.say("refuse", f"test-only|{sentence}\n")

    report = bench.slurm(f"{line}\n")

    failed(report, row, sentence, *words)
    assert [name for name, state in states(report).items() if state == FAIL] == [row]
    assert "submission failed" not in str(report.rows)


@fails("reservation")
def test_a_reservation_that_is_misspelt(bench):
    bench.say("refuse", "test-only|Requested reservation is invalid\n")
    bench.say("reservations", "ReservationName=workshop StartTime=2031-02-03T09:00:00\n")

    report = bench.slurm("export SBATCH_RESERVATION=workshp\n")

    failed(report, "reservation", "remove export", "or name one of these: workshop")


@fails("reservation")
def test_a_reservation_that_the_shell_has_kept(bench, monkeypatch):
    monkeypatch.setenv("SBATCH_RESERVATION", "old")
    bench.say("refuse", "test-only|Requested reservation is invalid\n")

    failed(bench.slurm(), "reservation", "unset SBATCH_RESERVATION")


@fails("account")
def test_an_account_that_slurm_accepts_without_knowing_it(bench):
    bench.fake.install("sacctmgr", "#!/bin/sh\necho 'ml||normal'\n")

    report = bench.slurm("export SBATCH_ACCOUNT=mine\n")

    failed(report, "account", "does not list it", "SBATCH_ACCOUNT", state=WARN)


INVALID = "Invalid account or account/partition combination specified"


@fails("account")
@pytest.mark.parametrize(
    ("mine", "words"),
    [
        (["course-7"], ["is not one of your accounts, or may not use cpu", "=course-7"]),
        (["ml", "vision"], ["export SBATCH_ACCOUNT=ml (your accounts: ml, vision)"]),
        ([], ["export SBATCH_ACCOUNT=<name>", "sacctmgr show associations"]),
    ],
)
def test_an_account_of_somebody_else(bench, mine, words):
    lines = "\n".join(f"echo '{name}||normal'" for name in [*mine, *mine])
    bench.fake.install("sacctmgr", f"#!/bin/sh\n{lines}\n")
    bench.say("refuse", f"SBATCH_ACCOUNT=course-8|{INVALID}\n")

    report = bench.slurm("export SBATCH_ACCOUNT=course-8\n")

    failed(report, "account", "SBATCH_ACCOUNT=course-8", INVALID, *words)
    assert [row.name for row in report.rows if row.state == FAIL] == ["account"]
    assert "see the row account" in report.rows[-2].found


def test_what_a_wrapper_of_sbatch_adds_does_not_hide_the_reason(bench):
    real = bench.fake.bin / "sbatch"
    wrapper = f"""#!/bin/bash
echo "--> Checking the account and the QOS of this project...OK"
{real}.real "$@"
code=$?
echo "Balance: 4711 hours"
exit $code
"""
    real.rename(f"{real}.real")
    bench.fake.install("sbatch", wrapper)
    bench.say("refuse", "test-only|Requested reservation is invalid\n")

    report = bench.slurm()

    failed(report, "reservation", "sbatch: Requested reservation is invalid")
    assert states(report)["account"] == SKIPPED
    assert "Balance" not in str(report.rows)


def test_a_healthy_slurm(bench):
    report = bench.slurm("export SBATCH_PARTITION=cpu\n")

    assert {row.state for row in report.rows} == {PASS}


def test_the_headings_of_squeue_are_not_counted_as_jobs(bench):
    heading = " JOBID PARTITION NAME\n"
    bench.say("queue", f"CLUSTER: practice\n{heading}    12 cpu mnist\n13_[1-3] cpu mnist\n")

    report = bench.slurm()

    assert "works; jobs of yours now: 2" in [row.found for row in report.rows]


# --- the jobs of the lessons


@fails("jobs of the lessons")
@pytest.mark.parametrize(
    ("refuse", "words"),
    [
        ("--mem=|" + MEMORY, ["all 5 different jobs", "export NO_MEM=yes"]),
        ("--time=01:00:00|" + LIMIT, ["lesson 8: sbatch run.sh", "export SBATCH_TIMELIMIT=1-00"]),
        ("--nodes=2|" + NODES, ["--num_nodes=2 --devices=2", "export SBATCH_PARTITION=<name>"]),
        ("--cpus-per-task=3|CPU count per node can not be satisfied", ["lesson 3: sbatch"]),
    ],
)
def test_a_job_of_a_lesson_that_slurm_refuses(bench, trees, same_shapes, refuse, words):
    bench.say("refuse", refuse + "\n")

    report = bench.jobs(trees)

    failed(report, "jobs of the lessons", refuse.partition("|")[2], *words)


def test_the_jobs_are_those_of_the_lessons(shapes):
    """Lessons 1 to 3 have no run.py; lessons 4 to 7 have no run.sh."""
    assert {n for shape in shapes if shape.by_hand for n in shape.lessons} == {1, 3, 8}
    assert [s.command for s in shapes if not s.by_hand] == [
        "python run.py",
        "python run.py --num_nodes=2 --devices=2",
    ]
    assert not [shape.refused for shape in shapes if shape.refused]


@fails("jobs of the lessons")
def test_a_job_that_slurm_accepts_but_would_never_start(bench, trees, same_shapes):
    site = bench.site("")
    partition = Partition({"PartitionName": "cpu", "MaxTime": "00:30:00"}, 2)

    lesson_jobs.check_lesson_jobs(bench.report, site, partition, trees, sys.executable)

    words = ["time limit 01:00:00 is above MaxTime=00:30:00 of cpu", "SBATCH_TIMELIMIT=00:30:00"]
    failed(bench.report, "jobs of the lessons", *words)
    assert "lesson 1" not in bench.report.rows[-2].found
    # the sample on the page
    page = " ".join((ROOT / "docs/sites.md").read_text().split())
    assert f"{words[0]}: lessons 7, 8: python run.py" in page
    assert f"-> {bench.report.rows[-2].cure}" in page


WITHOUT_MEM = """sbatch() {
    grep -v "SBATCH --mem" run.sh | command sbatch "${@/%run.sh//dev/stdin}"
}
"""


@fails("jobs of the lessons")
@pytest.mark.parametrize("function", ["", WITHOUT_MEM])
def test_the_lines_that_a_row_proposes_make_it_pass(bench, trees, function):
    bench.say("refuse", f"--mem|{MEMORY}\n")

    report = bench.jobs({1: trees[1], 8: trees[8]}, f"export NO_MEM=yes\n{function}")

    if function:
        assert states(report)["jobs of the lessons"] == PASS
        seen.add("jobs of the lessons")
    else:
        words = ["lesson 1: sbatch run.sh", "also add to site.sh the function sbatch"]
        failed(report, "jobs of the lessons", *words)
        assert "NO_MEM" not in report.rows[-2].cure
        assert "run.py" not in str(report.rows[-2].found)


@fails("jobs of the lessons")
def test_a_reason_that_all_jobs_share_is_shown_once(bench, trees, same_shapes):
    bench.say("refuse", f"--mem|{MEMORY}\n")
    bench.site("export GRES=gpu\n")

    report = bench.jobs(trees)
    _, outcome = bench.probe()
    judge.judge(report, bench.site(), Partition(), outcome)

    words = [f"Slurm refuses all 5 different jobs: {MEMORY}", "A site that refuses --mem"]
    failed(report, "jobs of the lessons", *words)
    assert str(report.rows).count(MEMORY) == 1
    assert states(report)["GPU job"] == states(report)["probe job"] == SKIPPED


def test_jobs_are_skipped_where_even_a_short_one_is_refused(bench, trees, same_shapes):
    bench.say("refuse", "test-only|Access denied\n")
    bench.slurm()

    report = bench.jobs(trees)

    assert [row.name for row in report.rows if row.state == FAIL] == ["short job"]
    assert "for the same reason: see short job" in report.rows[-2].found


def test_no_job_is_tried_with_an_account_that_slurm_refuses(bench):
    bench.say("refuse", f"test-only|{INVALID}\n")
    site = bench.site()

    assert check_slurm(bench.report, site, Path("logs")) is None


@fails("jobs of the lessons")
def test_a_folder_whose_lessons_cannot_be_exported(bench, tmp_path, monkeypatch):
    site = bench.site()
    (tmp_path / "lessons/1-simple").mkdir(parents=True)
    (tmp_path / "lessons/1-simple/run.sh").touch()
    monkeypatch.chdir(tmp_path)

    found = lesson_jobs.export_lessons(bench.report, tmp_path / "trees")
    lesson_jobs.check_lesson_jobs(bench.report, site, Partition(), found, sys.executable)

    words = ["cannot be exported: lessons/1-simple/ has no message", "git switch main"]
    failed(bench.report, "jobs of the lessons", *words)


@fails("GPU job")
def test_a_gres_that_run_py_refuses(bench, trees, same_shapes):
    report = bench.jobs(trees, "export GRES=gpu/a100\n")

    failed(report, "GPU job", "GRES in site.sh is 'gpu/a100'", "export GRES=gpu:a100")
    assert states(report)["jobs of the lessons"] == PASS


def test_a_gres_with_a_count_is_one_fault_only(bench, trees, same_shapes):
    bench.say("queue", "COMPLETED|None\n")

    report = bench.jobs(trees, "export GRES=gpu:a100:1\n")
    _, outcome = bench.probe()
    judge.check_gpus(report, bench.site(), Partition(), planted())

    assert states(report)["GPU job"] == SKIPPED
    assert "--gres=gpu:a100:1\n" in Path("logs/preflight-test/probe-2/job.sh").read_text()
    assert outcome.job == "7"
    assert states(report)["GPU of a job"] == PASS


NO_SUCH_GPU = "SBATCH --gres=gpu:1|Invalid generic resource (gres) specification\n"


@fails("GPU job")
@pytest.mark.parametrize(
    ("text", "gres", "words"),
    [
        ("export GRES=gpu:v100\n", "gpu:a100:2(S:0-1)", ["has gpu:a100:2", "GRES=gpu:a100\n"]),
        ("export GRES=gpu\n", "gpu:2", ["--gres=gpu:1", "ask the help desk"]),
        ("export GRES=gpu\n", "", ["has no GPUs", "export SBATCH_PARTITION=<name>"]),
    ],
)
def test_a_gpu_name_that_slurm_does_not_know(bench, trees, same_shapes, text, gres, words):
    bench.say("refuse", NO_SUCH_GPU.replace("gpu:1", "gpu"))

    report = bench.jobs(trees, text, gres)

    failed(report, "GPU job", *words, "to run the course on the CPUs instead, set no GRES")


def test_gpus_that_a_site_does_not_use_are_no_fault(bench, trees, same_shapes):
    bench.say("refuse", NO_SUCH_GPU)

    report = bench.jobs(trees, "", "gpu:a100:2")

    words = ["sets no GRES", "export GRES=gpu:a100\n", "run the course on the CPUs"]
    failed(report, "GPU job", *words, state=WARN)
    judge.check_gpus(report, bench.site(), Partition({}, 2, "gpu:a100:2"), planted())
    assert states(report)["GPU of a job"] == SKIPPED
    assert report.rows[-1].found.endswith("export GRES=gpu:a100")


def test_the_gpu_job_uses_the_name_in_site_sh(bench, trees, same_shapes):
    bench.say("refuse", "gres=gpu:1|Invalid generic resource (gres) specification\n")

    report = bench.jobs(trees, "export GRES=gpu:a100\n")

    assert states(report)["GPU job"] == PASS
    assert "--gres=gpu:a100:1" in report.rows[-1].found


# --- the probe job


@fails("probe job")
@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("Priority", ["WAIT=3600", "SBATCH_RESERVATION=<name>"]),
        ("Resources", ["WAIT=3600"]),
        ("ReqNodeNotAvail, UnavailableNodes:n[1-2]", ["sinfo --list-reasons"]),
        ("PartitionDown", ["SBATCH_PARTITION=<name>"]),
        ("Nodes required for job are DOWN, DRAINED or reserved", ["sinfo --list-reasons"]),
        ("QOSMaxJobsPerUserLimit", ["export SBATCH_QOS=<name>"]),
    ],
)
def test_a_probe_that_waits_too_long_is_cancelled(bench, reason, words):
    bench.say("queue", f"PENDING|{reason}\n")
    job, outcome = bench.probe(wait=-1.0)

    judge.judge(bench.report, bench.site(), Partition(), outcome)
    job.cancel()

    failed(bench.report, "probe job", f"job 7 has waited 0 s: {reason}", *words)
    assert f"--name={job.name}" in (bench.fake.record / "cancelled").read_text()


@fails("probe job")
def test_an_sbatch_that_hangs(bench, monkeypatch, capsys):
    bench.fake.install("sbatch", "#!/bin/bash\nexec sleep 1000\n")
    monkeypatch.setattr(probe, "TO_SUBMIT", 0.5)
    before = signal.getsignal(signal.SIGALRM)

    job, outcome = bench.probe()
    judge.judge(bench.report, bench.site(), Partition(), outcome)

    failed(bench.report, "probe job", "sbatch did not answer within 0 s", "squeue --me")
    shown = capsys.readouterr().out
    assert shown.count("is submitted to") == 1  # there is no second trial, on one node
    assert f"... job {job.name} is submitted to 2 nodes" in shown
    assert signal.getsignal(signal.SIGALRM) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_no_job_is_tried_where_sbatch_hangs(bench, monkeypatch):
    late = Answer(124, "", "sbatch did not answer within 60 s\n")
    monkeypatch.setattr("site_checks.slurm.submit_trial", lambda *_: late)

    assert check_slurm(bench.report, bench.site(), Path("logs")) is None
    assert "sbatch did not answer" in bench.report.rows[-1].found


@fails("probe job")
def test_an_answer_of_sbatch_without_an_id(bench):
    bench.fake.install("sbatch", "#!/bin/bash\nhead -c 5000 /dev/zero | tr '\\0' x\n")
    _, outcome = bench.probe()

    judge.judge(bench.report, bench.site(), Partition(), outcome)

    failed(bench.report, "probe job", "perhaps submitted", "squeue --me")
    assert len(bench.report.rows[-1].found) < 400
    assert "its script is" not in bench.report.rows[-1].found


@pytest.mark.parametrize(
    ("scancel", "words"),
    [
        ("echo scancel: error: Access denied >&2; exit 1", ["scancel: error: Access denied"]),
        ("exit 3", ["scancel: exit code 3"]),
        ("exec sleep 1000", ["scancel did not answer within 0 s"]),
    ],
)
def test_a_job_that_cannot_be_cancelled(bench, monkeypatch, main, capsys, scancel, words):
    bench.fake.install("scancel", f"#!/bin/bash\n{scancel}\n")
    bench.say("queue", "PENDING|Priority\n")
    monkeypatch.setattr("site_checks.report.TO_CANCEL", 0.5 if "sleep" in scancel else 60.0)
    monkeypatch.chdir(bench.report.folder)
    job, _ = bench.probe(wait=-1.0)

    def check(report, *_):
        job.report = report
        report.env = bench.fake.env
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            job.cancel()

    assert main(check) == 130

    shown = capsys.readouterr().out
    assert "are cancelled" not in shown.replace("not all jobs of this check are cancelled", "")
    for word in ["job 7 could not be cancelled", *words, f"--name={job.name}"]:
        assert word in shown
        assert word in Path("preflight-report.txt").read_text()


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("", "the jobs of this check are cancelled"),
        ("Job/step already completing or completed", "the jobs of this check are cancelled"),
        (None, "this check had submitted no job"),
    ],
)
def test_what_is_said_of_the_jobs_after_an_interrupt(bench, main, capsys, said, sentence):
    bench.fake.install("scancel", f"#!/bin/bash\necho '{said}' >&2\n[ -z '{said}' ]\n")

    def check(report, *_):
        report.env = bench.fake.env
        if said is not None:
            report.cancel("job 7", ["7"])
        signal.raise_signal(signal.SIGINT)

    assert main(check) == 130
    shown = capsys.readouterr().out
    assert f"interrupted; {sentence}\n" in shown
    assert "could not" not in shown


@fails("two nodes")
def test_a_site_that_refuses_two_nodes(bench):
    bench.say("refuse", f"--nodes=2|{NODES}\n")
    bench.say("queue", "COMPLETED|None\n")
    _, outcome = bench.probe()
    outcome.facts = planted()[:1]

    judge.judge(bench.report, bench.site(), Partition(), outcome)

    assert outcome.nodes == 1
    failed(bench.report, "two nodes", NODES, "lesson 8 needs two nodes", state=WARN)
    assert states(bench.report)["MASTER_ADDR"] == SKIPPED


def test_a_partition_with_one_usable_node_gets_a_probe_on_one_node(bench):
    bench.say("queue", "COMPLETED|None\n")
    folder = Path("logs/preflight-one")
    shutil.rmtree(folder, ignore_errors=True)

    outcome = probe.Probe(bench.report, bench.site(), folder).run(0.0, usable=1)

    assert (outcome.nodes, outcome.job) == (1, "7")
    assert "only one node" in outcome.refused


@fails("probe job")
def test_a_probe_that_slurm_refuses(bench):
    bench.say("refuse", f"chdir|{NODES}\n")
    _, outcome = bench.probe()

    judge.judge(bench.report, bench.site(), Partition(), outcome)

    failed(bench.report, "probe job", NODES)


def test_the_reasons_are_taken_from_the_sentence_of_run_py():
    said = "not submitted: sbatch: error: --mem is not supported here: use all"
    said += " sbatch: error: Batch job submission failed: Unspecified error; see sinfo and site.sh"

    assert probe.reason(said) == "--mem is not supported here: use all; Unspecified error"


@pytest.mark.parametrize("answer", ["echo 7", "echo hello; echo '7;cluster'; echo bye"])
def test_the_replies_of_sbatch_are_read_as_run_py_reads_them(bench, answer):
    bench.fake.install("sbatch", f"#!/bin/sh\n{answer}\n")
    bench.say("queue", "FAILED|NonZeroExitCode\n")

    _, outcome = bench.probe()

    assert outcome.job == "7"


def test_nothing_stands_between_the_rows(bench, trees, same_shapes, capfd):
    wrapper = "#!/bin/sh\necho '--> Verifying the account' >&2\necho 7\n"
    bench.fake.install("sbatch", wrapper)
    bench.say("queue", "COMPLETED|None\n")

    bench.jobs(trees)
    _, outcome = bench.probe()

    out, err = capfd.readouterr()
    assert outcome.job == "7"
    between = re.findall(r"^(?!PASS|FAIL|WARN|SKIPPED| {29}).+", out, re.M)
    assert ([line for line in between if not line.startswith("... job preflight-")], err) == (
        [],
        "",
    )
    assert "Verifying the account" in bench.report.text()


def test_the_probe_requests_no_memory_where_the_site_refuses_that(bench):
    bench.say("refuse", "--mem|" + MEMORY)
    bench.say("queue", "COMPLETED|None\n")
    bench.site("export NO_MEM=yes\n")

    assert bench.probe()[1].job == "7"


# --- what the nodes report


def planted(**changes):
    """Return what two healthy nodes write, with changes on the second one."""
    data = {name: [True, f"data: {name}, full set"] for name in ("MNIST", "cifar-10-batches-py")}
    one = {
        **{"began": 100.0, "nodes": 2, "python": "3.11.7", "executable": "/env/bin/python"},
        **{"requeue": "1", "modules": "", "cpus_asked": 2, "cpus": 2, "mem_asked_mb": 2048},
        **{"mem_limit_mb": 0, "shm_mb": 9000, "disk_free_mb": 90000, "folder": "/home/ada/course"},
        **{"master": "n1:20001", "network_error": "", "sees_other": True, "write_error": ""},
        **{"write_s": 0.5, "data": data, "internet": "", "importing": "", "import_errors": {}},
        **{"versions": {"torch": ["2.14.1", "2.14.1+cpu"]}, "import_s": 9.0, "gpus": 1},
        **{"gpu_error": "", "torch": "2.14.1", "done": True},
    }
    return [{**one, "host": "n1"}, {**one, "host": "n2", "clock_apart_s": 0.0, **changes}]


def outcome_of(facts, **changes):
    values = {
        "job": "7",
        "state": "OUT_OF_MEMORY",
        "facts": facts,
        "before": 99.0,
        "after": 101.0,
        "output": "x",
        **changes,
    }
    return probe.Outcome(2, **values)


def judged(bench, facts, text="", **changes):
    judge.judge(bench.report, bench.site(text), Partition(), outcome_of(facts, **changes))
    return bench.report


FAULTS = {
    "shared folder": ({"sees_other": False}, ["n2 does not see", "a folder that all nodes share"]),
    "Python of jobs": ({"python": "3.9.18"}, ["3.9.18", "load its module"]),
    "packages": (
        {"import_errors": {"torch": "ImportError: libcudart.so"}},
        ["n2 cannot import torch: ImportError: libcudart.so", "make setup"],
    ),
    "data": (
        {"data": {"MNIST": [False, 'data/MNIST is missing; run "bash data/get_mnist.sh" there']}},
        ["on n2, data/MNIST is missing", "bash data/get_mnist.sh"],
    ),
    "internet": ({"weights": "PermissionError: /torch"}, ["TORCH_HOME", "cache_models.sh"]),
    "disk space": ({"write_error": "OSError: Disk quota exceeded"}, ["quota exceeded", "free"]),
    "/dev/shm": ({"shm_mb": 4}, ["has 4 MB free on n2", "--num_workers=0"]),
    "CPUs and memory": ({"mem_limit_mb": 512}, ["limits the job to 512 MB of 2048"]),
    "requeue": ({"requeue": "0"}, ["Requeue=0", "run.py --resume"]),
    "clocks": ({"clock_apart_s": -75.0}, ["the two nodes differ by 75 s", "help desk"]),
    "MASTER_ADDR": (
        {"network_error": "ConnectionRefusedError: [Errno 111]"},
        ["n2 and rank 0 at n1:20001 do not connect", "20000 to 29999"],
    ),
    "probe job": (
        {"done": False, "importing": "torch"},
        ["ended early, as OUT_OF_MEMORY while importing torch", "SBATCH_MEM_PER_NODE=4G"],
    ),
}


@fails(*FAULTS)
@pytest.mark.parametrize("row", FAULTS)
def test_a_fault_that_a_node_reports(bench, row):
    changes, words = FAULTS[row]

    report = judged(bench, planted(**changes))

    failed(report, row, *words)
    assert [name for name, state in states(report).items() if state == FAIL] == [row]


WARNINGS = {
    "no weights": ("packages", {"versions": {"torch": ["2.14.1", "2.13.0"]}}, "torch 2.13.0"),
    "slow": ("packages", {"import_s": 90.0}, "the imports took 90 s"),
    "full": ("disk space", {"disk_free_mb": 900}, "900 MB free"),
    "cpus": ("CPUs and memory", {"cpus": 1}, "on n2, a task gets 1 of the 2 requested CPUs"),
    "scontrol": ("requeue", {"requeue": "no scontrol"}, "have no scontrol"),
    "clock": ("clocks", {"began": 90.0}, "this node and a compute node differ by 9 s"),
}


@pytest.mark.parametrize("name", WARNINGS)
def test_a_weakness_that_a_node_reports(bench, name):
    row, changes, words = WARNINGS[name]

    report = judged(bench, planted(**changes))

    failed(report, row, words, state=WARN)


@fails("data")
@pytest.mark.parametrize(
    ("line", "words", "folder"),
    [
        ("", ["if the data are elsewhere", "export DATA_DIR=<folder>", "get_mnist.sh"], ""),
        ("export DATA_DIR=/shared/my-data\n", ["get_mnist.sh /shared/my-data"], ' "$DATA_DIR"'),
    ],
)
def test_data_that_are_missing(bench, capsys, line, words, folder):
    where = " /shared/my-data" if line else ""
    text = f'MNIST is missing; run "bash data/get_mnist.sh{where}" on a node with internet,'
    text += f' or "env/bin/python data/make_sample.py{where}" for the small sample'

    report = judged(bench, planted(data={"MNIST": [False, text]}), f"{line}export PYTHON=python3\n")

    failed(report, "data", *words)
    assert "env/bin/python data" not in str(report.rows)
    # to be copied from the terminal
    sample = f"bash -c 'source cluster/job_env.sh; $PYTHON data/make_sample.py{folder}'\n"
    assert f" {sample}" in capsys.readouterr().out


@fails("GPU of a job")
@pytest.mark.parametrize(
    ("torch", "words"),
    [
        ("2.14.1+cu130", ["(Apptainer: exec --nv)", "the driver is missing"]),
        ("2.14.1+cpu", ["make setup TORCH=pypi"]),
    ],
)
def test_a_gpu_that_pytorch_does_not_see(bench, torch, words):
    report = judged(bench, planted(gpus=0, torch=torch), "export GRES=gpu:a100\n")

    words = ["sees no GPU on n2 with --gres=gpu:a100:1", "delete the line GRES", *words]
    failed(report, "GPU of a job", *words)


@fails("two nodes", "shared folder")
def test_a_node_that_reports_nothing(bench):
    report = judged(bench, planted()[:1])

    failed(report, "two nodes", "only n1 has reported", "help desk")
    failed(report, "shared folder", "only n1 has written", "a folder that all nodes share")


@fails("modules")
@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("site.sh: line 1: module: command not found", ["/etc/profile.d/modules.sh"]),
        ("Lmod has detected the following error: these modules are unknown", ["module avail"]),
        ("ERROR: Unable to locate a modulefile for 'python/3.99'", ["python/3.99"]),
    ],
)
def test_a_module_that_cannot_be_loaded(bench, said, words):
    text = "module() { :; }\nmodule load python/3.99\n"

    report = judged(bench, planted(), text, errors=f"{said}\n")

    failed(report, "modules", f"in a job: {said}", *words)


@fails("probe job")
@pytest.mark.parametrize(
    ("errors", "words"),
    [
        ("PYTHON in site.sh is 'pyhton', which does not run Python here: see", ["is 'pyhton'"]),
        ("No Python environment at env (seen from /x): create it", ["No Python environment"]),
        ("srun: error\nslurmstepd: x\n/opt/python: Illegal instruction", ["Illegal instruction"]),
    ],
)
def test_a_job_that_cannot_run_its_python(bench, errors, words):
    failed(judged(bench, [], errors=errors, output=""), "probe job", *words)


@fails("probe job")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["step 2 of docs/instructor.md", "export VENV=<folder>", "export PYTHON=<command>"]),
        ("export VENV=/nowhere\n", ["the site.sh line of VENV or PYTHON"]),
    ],
)
def test_a_job_without_an_environment(bench, monkeypatch, text, words):
    monkeypatch.delenv("VENV")
    errors = "No Python environment at env (seen from /x): create it"

    failed(judged(bench, [], text, errors=errors, output=""), "probe job", *words)


@fails("probe job")
def test_a_node_that_does_not_see_the_clone(bench):
    report = judged(bench, [], errors="", output="")

    failed(report, "probe job", "left no log in this folder", "a folder that all nodes see")


@fails("disk space")
def test_a_quota_that_is_nearly_used_up(bench):
    reply = """Disk quotas for user ada (uid 1000):
     Filesystem   space   quota   limit   grace   files   quota   limit   grace
     nas:/home    19G     20G     22G             211k    0       0"""
    bench.fake.install("quota", f"#!/bin/sh\ncat <<'END'\n{reply}\nEND\n")

    failed(judged(bench, planted()), "disk space", "19G of the quota of 20G", state=WARN)


def test_no_internet_is_not_a_fault(bench):
    report = judged(bench, planted(internet="URLError: unreachable"))

    assert states(report)["internet"] == PASS
    assert any("fetch data and pretrained weights on this node" in r.found for r in report.rows)


def test_healthy_nodes(bench):
    report = judged(bench, planted(), "export GRES=gpu\n")

    assert [row.name for row in report.rows if row.state == PASS] == [
        *("site.sh", "probe job", "two nodes", "shared folder"),
        *judge.ROWS[4:],
    ]


# --- the program of the nodes


@pytest.fixture
def rank(monkeypatch, tmp_path):
    """The program of a node, as a task of a job on two nodes; returns what it has noted."""
    monkeypatch.setattr(node, "RUN", tmp_path)
    monkeypatch.setattr(node, "NODES", 2)
    monkeypatch.setattr(node, "PATIENCE", 0.3)
    monkeypatch.setattr(node, "facts", {})
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    return lambda name: node.facts.get(name)


def test_a_port_that_is_blocked(rank, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setenv("MASTER_PORT", str(port))  # nobody listens there
    monkeypatch.setattr(node, "RANK", 1)

    node.meet()

    assert "ConnectionRefusedError" in rank("network_error")


def test_clocks_that_differ(rank, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setattr(node, "PATIENCE", 20.0)
    served = threading.Thread(target=node.serve, args=[port])
    served.start()
    clock = iter([1000.0, 1090.0, 1000.0])  # before, on the other node, after
    # not time.time itself, which other threads call too
    fake = SimpleNamespace(time=lambda: next(clock), monotonic=time.monotonic, sleep=time.sleep)
    monkeypatch.setattr(node, "time", fake)

    node.visit("127.0.0.1", port)
    served.join()

    assert abs(rank("clock_apart_s")) == 90.0


def test_a_folder_that_the_other_node_does_not_share(rank):
    node.see_other_node()

    assert rank("sees_other") is False


def test_a_disk_that_is_full(rank, monkeypatch):
    def full(*_):
        raise OSError(122, "Disk quota exceeded")

    monkeypatch.setattr(node, "os", SimpleNamespace(urandom=full))

    node.try_disk()

    assert "Disk quota exceeded" in rank("write_error")


def test_a_node_without_shared_memory(tmp_path):
    assert node.free_mb(tmp_path / "shm") == -1


# --- the training of --full


def training_of(bench, tmp_path, log, done=True, state="COMPLETED"):
    run = tmp_path / "logs/preflight/version_0"
    run.mkdir(parents=True)
    outputs = tmp_path / "logs/preflight/slurm_out_logs/version_0_7.out"
    outputs.parent.mkdir()
    outputs.write_text(log)
    if done:
        (run / "DONE.json").touch()
    bench.say("queue", f"{state}|None\n")
    problem, cure = training.wait_for(bench.report, "7", 0.0)
    training.judge_run(bench.report, tmp_path, "7", problem, cure, outputs)
    return bench.report


GOOD = "INFO processes: 2 (nodes: 2)\nINFO test loss 0.1 acc 0.97\n"


@fails("training, 2 nodes")
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"done": False}, ["left no DONE.json"]),
        ({"log": GOOD.replace("processes: 2", "processes: 1")}, ["trained with 1 processes"]),
        ({"state": "OUT_OF_MEMORY"}, ["ended as OUT_OF_MEMORY"]),
    ],
)
def test_a_training_that_does_not_end_well(bench, tmp_path, changes, words):
    report = training_of(bench, tmp_path, **{"log": GOOD, **changes})

    failed(report, "training, 2 nodes", *words, "version_0_7.out")


def test_a_training_whose_submission_is_interrupted_may_be_left(bench, tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    site = bench.site()
    bench.report.add("two nodes", PASS, "they are there")
    bench.report.cancelled = True  # the probe
    monkeypatch.setattr(bench.report, "run", interrupt)

    with pytest.raises(KeyboardInterrupt):
        training.check_training(bench.report, site, {8: tmp_path}, sys.executable, 0.0)

    assert bench.report.interruption() == "interrupted; not all jobs of this check are cancelled"
    assert "squeue --me and scancel <id>" in str(bench.report.remedies())


def test_the_end_of_a_long_log_of_a_training_is_kept(bench, tmp_path):
    report = training_of(bench, tmp_path, "x\n" * 100_000 + GOOD)

    assert states(report) == {"training, 2 nodes": PASS}
    assert GOOD in report.text()
    assert len(report.text()) < 50_000


def test_a_training_that_ends_well(bench, tmp_path):
    report = training_of(bench, tmp_path, GOOD)

    assert states(report) == {"training, 2 nodes": PASS}


# --- the table and the report


@pytest.fixture
def main(tmp_path, monkeypatch):
    """Run preflight in a folder of its own; its checks are replaced by a function."""
    before = {number: signal.getsignal(number) for number in preflight.SIGNALS}
    monkeypatch.setattr(preflight, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)

    def run(check, *words):
        monkeypatch.setattr(preflight, "check_everything", check)
        monkeypatch.setattr(sys, "argv", ["preflight.py", *words])
        return preflight.main()

    yield run
    for number, handler in before.items():
        signal.signal(number, handler)


def signal_all():
    for number in preflight.SIGNALS:
        signal.raise_signal(number)


def test_a_second_interrupt_does_not_disturb_the_end(main, tmp_path, capsys, monkeypatch):
    skip = Report.skip
    monkeypatch.setattr(Report, "skip", lambda *words: (signal_all(), skip(*words)))

    code = main(lambda *_: signal_all())

    assert code == 130
    assert "INTERRUPTED: " in capsys.readouterr().out
    assert "interrupted: " in (tmp_path / "preflight-report.txt").read_text()
    assert not (tmp_path / "logs").exists()


def test_signals_wait_while_a_job_is_cancelled(main):
    ended = []

    def check(*_):
        preflight.without_interrupts(signal_all)
        ended.append("normally")
        signal.raise_signal(signal.SIGTERM)

    assert main(check) == 130
    assert ended == ["normally"]


def test_a_folder_logs_that_was_there_stays(main, tmp_path):
    (tmp_path / "logs").mkdir()

    assert main(lambda *_: None) == 0
    assert list((tmp_path / "logs").iterdir()) == []


@pytest.mark.parametrize("state", [PASS, FAIL])
def test_only_the_files_of_a_training_that_failed_are_kept(main, tmp_path, capsys, state):
    main(lambda report, *_: report.add(training.ROW, state, "job 7", "its log says why"), "--full")

    kept = [f"logs/{path.name}" for path in tmp_path.glob("logs/*")]
    shown = capsys.readouterr().out
    named = [f"are kept: remove the folder {path} when" in shown for path in kept]
    assert named == ([True] if state == FAIL else [])


def test_every_row_is_made_to_fail():
    assert set(made_to_fail) == {*preflight.ROWS, training.ROW}


def test_the_page_explains_every_row():
    page = (ROOT / "docs/sites.md").read_text().partition("make preflight\n")[2]
    table = page.partition("| row |")[2].partition("\n\n")[0]
    names = re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE)

    rows = {*preflight.ROWS, training.ROW}
    found = {row for row in rows if any(row in shown for shown in names)}

    assert found == rows


def test_the_lines_of_the_table_fit_and_stay_whole(bench, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    cure = "write this line into your site.sh: export SBATCH_PARTITION=" + "x" * 30

    bench.report.add("jobs of the lessons", FAIL, "a long sentence " * 20, cure)

    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 100
    assert re.search(r"^ +export SBATCH_PARTITION=x{30}$", shown, re.MULTILINE)


def test_the_report_keeps_no_secrets(bench):
    secret = "h" * 20
    bench.fake.env["HF_TOKEN"] = secret
    site = bench.site(
        f"export WANDB_API_KEY={secret}\nexport SBATCH_ACCOUNT=ml\necho $WANDB_API_KEY\n"
    )
    bench.report.run(["bash", "-c", "env; echo https://ada:pass-word@host/x"])

    text = bench.report.text()

    assert site.env["WANDB_API_KEY"] == secret
    assert secret not in text
    assert "pass-word" not in text
    assert HIDDEN in text
    assert "SBATCH_ACCOUNT=ml" in text


ESCAPES = "\033]0;title\007\033[31m\033[2J\r"


@pytest.mark.parametrize("terminal", [True, False])
def test_what_slurm_says_cannot_change_the_terminal(bench, capsys, monkeypatch, terminal):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    bench.site(f"export SBATCH_ACCOUNT=$'{ESCAPES}'\n")
    capsys.readouterr()

    bench.report.show_progress(f"job 7 waits (Pri{ESCAPES}ority)")
    bench.report.run(["printf", "%s", f"Pri{ESCAPES}ority"])

    shown = capsys.readouterr().out.removeprefix("\r\033[K")
    assert "job 7 waits (Pri ]0;title  [31m [2J ority)" in shown
    kept = bench.report.text()
    assert "Pri ]0;title" in kept.rpartition("$ printf")[2]
    assert [c for c in shown + kept if not c.isprintable() and c != "\n"] == []


def test_a_command_that_does_not_end_is_ended_with_all_that_it_has_started(bench, tmp_path):
    pid = tmp_path / "pid"
    text = f"sleep 1000 & echo $! >{pid}.new; mv {pid}.new {pid}; echo early >&2; wait"
    # the time is over when the command has begun; the first call is that of the start
    first = iter([0.0])
    clock = SimpleNamespace(monotonic=lambda: next(first, 9.0 if pid.exists() else 0.0))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("site_checks.report.time", clock)
        patch.setattr(
            "site_checks.report.selectors.DefaultSelector.select",
            functools.partialmethod(lambda own, _: SELECT(own, 0.05)),
        )
        answer = answer_of(["bash", "-c", text], 5.0, bench.fake.env, None, "sbatch")

    assert answer.code == 124
    assert "sbatch did not answer within 5 s" in answer.said
    wait_until(lambda: not is_running(pid.read_text()), 60, "the end of sleep")


def is_running(pid):
    try:
        return Path(f"/proc/{int(pid)}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_of_a_long_answer_the_report_keeps_the_beginning(bench, monkeypatch):
    monkeypatch.setattr("site_checks.report.MOST", 100_000)
    bench.report.env["HF_TOKEN"] = "h" * 20

    answer = bench.report.run(["bash", "-c", "yes $HF_TOKEN | tr -d '\\n' | head -c 3000000"])

    text = bench.report.text()
    assert len(answer.out) == 100_000
    assert len(text) < 30_000
    assert "characters or more]" in text
    assert "hhh" not in text


def test_the_report_of_another_person_stays(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(bench.report, "folder", tmp_path)
    (tmp_path / "preflight-report.txt").write_text("theirs")
    ours = preflight.os.getuid()
    monkeypatch.setattr("site_checks.report.os.getuid", lambda: ours + 1)

    path = bench.report.write()

    assert path.name != "preflight-report.txt"
    assert (tmp_path / "preflight-report.txt").read_text() == "theirs"


WRONG = [
    "soon",
    "nan",
    "-5",
    "1_0",
    "\N{ARABIC-INDIC DIGIT FIVE}",
    "",
    "5; x",
    "9" * 5000,
    "\033[31m",
]


@pytest.mark.parametrize("value", WRONG)
def test_a_wait_that_is_no_number_of_seconds(monkeypatch, capsys, value):
    monkeypatch.setattr(sys, "argv", ["preflight.py", f"--wait={value}"])

    with pytest.raises(SystemExit) as error:
        preflight.main()

    shown = capsys.readouterr().err
    assert error.value.code == 2
    assert shown.startswith(f"WAIT is {value[:50]!r}"[:-1])
    assert shown.endswith(" make preflight WAIT=3600, or --wait 3600\n")
    assert len(shown) < 250


def test_make_passes_on_the_wait_as_one_word(module_clone):
    made = module_clone.run("make", "--dry-run", "preflight", "WAIT=5; echo '$$HOME' --full")

    assert made.returncode == 0, made.stderr
    assert shlex.split(made.stdout)[-1] == "--wait=5; echo '$HOME' --full"


@pytest.mark.parametrize("words", [["--wait"], ["--nothing"]])
def test_a_wrong_option_is_a_usage_error(monkeypatch, words):
    monkeypatch.setattr(sys, "argv", ["preflight.py", *words])

    with pytest.raises(SystemExit) as error:
        preflight.main()

    assert error.value.code == 2


# --- README.md and docs/preparation.md hold no step that preflight does not check

# the beginning of a command on these pages -> the rows that check it
STEPS = {
    "git clone": ["tools", "this folder"],
    "cd hpc-starter": ["this folder"],
    "make run": ["packages", "data", "lesson branches"],
    "make setup": ["Python here", "packages"],
    "make lessons": ["lesson branches"],
    "git switch": ["lesson branches"],
    "git log": ["lesson branches"],
    "git diff": ["lesson branches"],
    "python3 start_lesson.py": ["lesson branches", "tools"],
    "ssh <user>@<login node>": ["Slurm's commands"],
    "bash data/get_mnist.sh": ["data", "internet"],
    "env/bin/python data/make_sample.py": ["data", "Python here"],
    "cp site.example.sh site.sh": ["site.sh"],
    "source site.sh": ["site.sh", "settings"],
    # for those who change the course, on any machine
    "make check": ["Python here"],
    "make test": ["Python here"],
    "make docs": ["Python here"],
    "make lock": ["Python here"],
    "make measure": ["Python here"],
    "make pictures": ["tools"],
    "make diff": ["tools"],
    "python3 tools/lessons.py": ["tools", "jobs of the lessons"],
}


@pytest.mark.parametrize("page", ["README.md", "docs/preparation.md"])
def test_preflight_checks_every_step_of_the_page(page):
    text = (ROOT / page).read_text()
    blocks = re.findall(r"^```bash[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    commands = [line for block in blocks for line in block.splitlines() if line.strip()]

    unknown = [line for line in commands if not line.startswith(tuple(STEPS))]

    assert unknown == [], "add the row of make preflight that checks this step"
    assert {row for rows in STEPS.values() for row in rows} <= set(preflight.ROWS)


def test_the_table_of_steps_is_not_older_than_the_pages():
    text = "".join((ROOT / page).read_text() for page in ("README.md", "docs/preparation.md"))

    assert [step for step in STEPS if not re.search(rf"^{re.escape(step)}", text, re.M)] == []


def test_the_helper_sees_a_test_that_makes_nothing_fail():
    quiet = fails("tools")(lambda: None)
    made_to_fail["tools"].discard("<lambda>")

    with pytest.raises(AssertionError, match="has failed"):
        quiet()
    assert inspect.isfunction(quiet)
