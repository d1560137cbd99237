"""docs/instructor.md: its plans, its commands and its picture of the class view: make test-fast."""

import os
import re
import subprocess
import sys

import class_clones
import class_view
import pytest

from clone import ROOT, clean_environment

PAGE = (ROOT / "docs/instructor.md").read_text()
ROW = re.compile(r"^\| (\d):(\d\d) \| (\d+) \| (.*) \|$", re.MULTILINE)
PLANS = {
    title: [(int(h) * 60 + int(m), int(minutes), what) for h, m, minutes, what in ROW.findall(text)]
    for title, text in re.findall(r"^### (.*)\n((?:(?!^#).*\n)+)", PAGE, re.MULTILINE)
    if ROW.search(text)
}
BLOCKS = re.findall(r"^```bash.*\n((?:.*\n)*?)```$", PAGE, re.MULTILINE)


def of_lesson(number):
    """Return the minutes to read and to run, and the nodes, CPUs and GB that a page names."""
    text = (ROOT / f"docs/lessons/{number}.md").read_text()
    read, run = re.search(r"\*\*Time:\*\* (\d+) minutes to read(?:, (\d+) to run)?", text).groups()
    found = re.search(r"(\d+) (?:\[node\]\S*|nodes?), .*?(\d+) (?:\[CPU\]|CPU).*?(\d+) GB", text)
    return int(read) + int(run or 0), tuple(map(int, found.groups()))


def lessons_in(plan):
    return {
        int(n): minutes for _, minutes, what in plan for n in re.findall(r"\[lesson (\d+)", what)
    }


def test_there_are_three_plans():
    assert [len(lessons_in(plan)) for plan in PLANS.values()] == [4, 8, 4]


@pytest.mark.parametrize("title", PLANS)
def test_the_times_of_a_plan_follow_each_other(title):
    time = 0
    for start, minutes, what in PLANS[title]:
        assert start == time, what
        time += minutes
    assert time <= (8 if title.startswith("A day") else 4) * 60


@pytest.mark.parametrize("title", PLANS)
def test_a_plan_gives_each_lesson_more_time_than_its_page_needs(title):
    for number, minutes in lessons_in(PLANS[title]).items():
        needed, _ = of_lesson(number)
        assert minutes >= 1.4 * needed, number


def test_the_last_lessons_fit_into_the_time_that_the_page_names():
    named = int(re.search(r"\(lessons/10\.md\) need about (\d+) minutes each", PAGE)[1])

    assert named >= 1.4 * max(of_lesson(number)[0] for number in (9, 10))


def test_the_reservation_is_large_enough_for_the_class():
    text = " ".join(PAGE.split())
    small, large = re.findall(r"(\d+) CPUs and (\d+) GB", text)

    for number in (3, 4, 5):
        _, (nodes, cpus, gb) = of_lesson(number)
        assert (nodes, str(25 * cpus), str(25 * gb)) == (1, *small)
    _, (nodes, cpus, gb) = of_lesson(8)
    assert (str(25 * nodes * cpus), str(25 * nodes * gb)) == large


def test_the_steps_before_the_class_are_in_the_order_in_which_they_need_each_other():
    steps = re.findall(r"^\*\*(\d)\. ", PAGE, re.MULTILINE)
    commands = "\n".join(BLOCKS)

    assert steps == list("12345")
    order = [
        "git clone <",
        "make lessons",
        "cp site.example.sh",
        "make setup",
        "make_sample.py",
        "make preflight",
    ]
    places = [commands.index(command) for command in order]
    assert places == sorted(places)


def test_site_example_names_every_setting_that_the_steps_ask_for():
    example = (ROOT / "site.example.sh").read_text()
    table = PAGE[PAGE.index("| line of site.sh |") : PAGE.index("**3.")]
    named = re.findall(r"export (\w+)=", table)

    assert {"SBATCH_ACCOUNT", "NO_MEM", "DATA_DIR"} <= set(named)
    for name in named:
        assert f"#export {name}=" in example, name


@pytest.mark.parametrize("setting", ["VENV", "PYTHON"])
def test_the_data_are_written_at_a_site_with_spaces_and_a_wrapper(setting, tmp_path):
    scratch = tmp_path / "my scratch"
    scratch.mkdir()
    wrapper = scratch / "site-python"
    wrapper.write_text(f"#!/bin/sh\necho welcome >&2\nexec '{sys.executable}' \"$@\"\n")
    wrapper.chmod(0o755)
    value = {"VENV": sys.prefix, "PYTHON": wrapper}[setting]
    lines = f"export {setting}='{value}'\nexport DATA_DIR='{scratch}/the data'\n"
    [clone] = [block for block in BLOCKS if block.startswith("git clone <")]
    [settings] = [block for block in BLOCKS if block.startswith("cp site.example.sh")]
    [data] = [block for block in BLOCKS if "make_sample.py" in block]
    clone = clone.replace("<address of this repository>", f"--quiet '{ROOT}'")
    script = f"""set -e
    sinfo() {{ echo "PARTITION TIMELIMIT MEMORY GRES"; }}
    sacctmgr() {{ echo "Account|QOS"; }}
    cd '{scratch}'
    {clone}
    {settings}
    printf %s "{lines}" >> site.sh
    {data}
    """

    env = clean_environment(tmp_path)
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=env)

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"wrote {scratch}/the data/MNIST: sample" in done.stdout
    assert (scratch / "the data/cifar-10-batches-py/SHA256SUMS").is_file()


def test_a_learner_can_follow_the_commands_and_is_then_in_the_view(tmp_path, monkeypatch):
    [prepare] = [block for block in BLOCKS if "git bundle" in block]
    bundle = re.search(r"^git bundle .*", prepare, re.MULTILINE)[0]
    [folder] = [block for block in BLOCKS if block.startswith("mkdir")]
    [follow] = [block for block in BLOCKS if block.startswith("git clone /shared")]
    settings = f"export SBATCH_RESERVATION=workshop VENV='{sys.prefix}'\n"
    (tmp_path / "site.sh").write_text(settings)
    script = f"""set -e
    git clone --quiet '{ROOT}' '{tmp_path}/instructor'
    cd '{tmp_path}/instructor'
    git switch --quiet -C main
    {bundle}
    {folder}
    umask 022
    USER=ada
    {follow}
    [ "$SBATCH_RESERVATION" = workshop ]
    [ "$(dirname "$(command -v python)")" -ef '{sys.prefix}/bin' ]
    git switch --quiet 2-lightning-module
    """.replace("/shared/", f"{tmp_path}/")

    env = clean_environment(tmp_path)
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=env)

    assert done.returncode == 0, done.stdout + done.stderr
    monkeypatch.setattr(class_view, "ask", lambda command: "")
    [row], _ = class_view.read_class([str(tmp_path / "class")])
    assert (row.clone.path.name, row.lesson) == ("ada", "2-lightning-module")
    assert (tmp_path / "class").stat().st_mode & 0o7777 == 0o1777


def test_the_class_view_is_shown_as_the_program_prints_it(tmp_path, monkeypatch):
    files = {
        "ada/.git/HEAD": "ref: refs/heads/4-auto-slurm-script-generation\n",
        "ada/logs/mnist/version_0/DONE.json": "{}",
        "ada/logs/mnist/slurm_out_logs/version_0_1207.out": "epoch 10/10  train loss 0.1 acc 1\n",
        "ben/.git/HEAD": "ref: refs/heads/4-auto-slurm-script-generation\n",
        "ben/logs/mnist/slurm_err_logs/version_0_1211.err": (
            "No Python environment at env (seen from /shared/class/ben): create it as described"
            " in docs/preparation.md, or set VENV or PYTHON in site.sh.\n"
        ),
        "cleo/.git/HEAD": "ref: refs/heads/3-improved-data-loading\n",
        "cleo/lightning_logs/version_1213/hparams.yaml": "num_workers: 2\n",
        "cleo/slurm.1213.out": "epoch  7/10  train loss 0.1 acc 1\n",
        "dan/.git/HEAD": "ref: refs/heads/my-lesson-4\n",
    }
    for name in ("ada", "ben"):
        files[f"{name}/logs/mnist/version_0/code/run.py"] = ""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    def with_name(clone):
        clone.uid, clone.user = os.getuid(), clone.path.name

    def answer(command):
        mark = next(word for word in command if word.startswith("--delimiter="))[12:]
        states = {"ada": (1207, "COMPLETED"), "ben": (1211, "FAILED"), "cleo": (1213, "RUNNING")}
        jobs = [(*state, "", "", tmp_path / name) for name, state in states.items()]
        return "\n".join(mark.join(map(str, job)) for job in jobs)

    monkeypatch.setattr(class_clones, "name_owner", with_name)
    monkeypatch.setattr(class_view, "ask", answer)
    [shown] = re.findall(r"^```output.*\n((?:.*\n)*?)```$", PAGE, re.MULTILINE)
    width = max(map(len, shown.splitlines()))

    printed = class_view.table(*class_view.read_class([str(tmp_path)]), width)

    def without_times(lines):
        return [re.sub(r"^\d+:\d+:\d+|\s+\d+ (s|min)$", "", line).rstrip() for line in lines]

    assert without_times(printed) == without_times(shown.splitlines())
