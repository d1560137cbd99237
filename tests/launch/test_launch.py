"""run.py of lessons 4 and later: script, refusals, hostile arguments: make test-fast."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from clone import ARGUMENTS_LESSON, ROOT
from login_node import FakeLoginNode

BRANCHES = [path.stem for path in sorted((ROOT / "lessons").glob("[4-9]-*.txt"))]
GOLDEN = ROOT / "tests/launch/golden"
HOSTILE = [
    "; touch PWNED",
    "$(touch PWNED)",
    "`touch PWNED`",
    "| touch PWNED",
    "& touch PWNED &",
    "> PWNED",
    "a\ntouch PWNED",
    "a\rtouch PWNED",
    "a\ttab",
    "'",
    '"',
    "\\",
    "'; touch PWNED; '",
    '"; touch PWNED; "',
    "*",
    "?",
    "~",
    "-rf",
    "--help",
    "",
    " ",
    "\u00fcml\u00e4ut",
    "\u202eright to left",
    "\ud800",
    "x" * 300,
    "x" * 10_000,
    "%j",
    "#SBATCH --time=99",
    "a\n#SBATCH --time=99",
    "{{version}}",
    "${HOME}",
    "..",
    "../..",
    "a b",
    "a=b,c:d",
    "!!",
    "@@host",
]


@pytest.fixture
def login_node(module_clone, tmp_path):
    """A login node whose clone is on lesson 9, without logs."""
    module_clone.git("switch", "--quiet", ARGUMENTS_LESSON)
    module_clone.git("clean", "--quiet", "-d", "--force", "-x", "logs")
    return FakeLoginNode(module_clone, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("branch", BRANCHES)
def test_the_script_of_a_lesson_equals_the_golden_file(module_clone, branch):
    module_clone.git("switch", "--quiet", branch)
    golden = GOLDEN / f"{branch}.sh"

    done = module_clone.run(sys.executable, "run.py", "--dry-run")
    script = done.stdout.replace(str(module_clone.folder), "/path/to/hpc-starter")

    if os.environ.get("ACCEPT"):
        golden.write_text(script)
    assert script == golden.read_text(), "if the change is intended: ACCEPT=1 make test-fast"
    assert not (module_clone.folder / "logs").exists()


@pytest.mark.parametrize("branch", BRANCHES)
def test_bash_and_shellcheck_accept_the_script(branch):
    script = str(GOLDEN / f"{branch}.sh")
    shellcheck = str(Path(sys.executable).with_name("shellcheck"))

    for command in (["bash", "-n", script], [shellcheck, "--exclude=SC1091,SC2086", script]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_script_ends_with_srun_so_that_the_job_gets_its_exit_code():
    text = (GOLDEN / f"{BRANCHES[0]}.sh").read_text()

    command = text.replace("\\\n", "").strip().splitlines()[-1]

    assert command.startswith("srun $PYTHON logs/mnist/version_0/code/run.py --local ")


def test_a_launch_prints_the_job_and_its_logs(login_node):
    done = login_node.launch("--experiment_name=first")

    [script] = login_node.scripts()
    assert done.returncode == 0, done.stderr
    job = done.stdout.split()[1]
    assert done.stdout == f"job {job} -> logs/first/version_0\n"
    [folder] = (login_node.logs / "first").iterdir()
    assert (folder / "job.sh").read_text() == script
    names = {path.name for path in folder.iterdir()}
    assert names == {"job.sh", "code", "command.txt", "commit.txt"}


def test_the_arguments_set_the_resources_of_the_job(login_node):
    done = login_node.launch(
        "--num_workers=5", "--time_min=90", "--mem_gb=7", "--email=me@example.org"
    )

    [script] = login_node.scripts()
    assert done.returncode == 0, done.stderr
    for line in (
        "#SBATCH --cpus-per-task=6",
        "#SBATCH --time=01:30:00",
        "#SBATCH --mem=7168M",
        "#SBATCH --mail-type=END,FAIL",
        "#SBATCH --mail-user=me@example.org",
    ):
        assert line in script.splitlines()


def test_each_trial_is_a_job_with_its_own_folder_and_learning_rate(login_node):
    done = login_node.launch("--nb_trials=3", "--experiment_name=grid")

    assert done.returncode == 0, done.stderr
    assert done.stdout.count("-> logs/grid/version_") == 3
    rates = set()
    for script in login_node.scripts():
        words = script.split()
        [rate] = [word for word in words if word.startswith("--learning_rate=")]
        rates.add(rate)
    assert len(rates) == 3
    assert {p.name for p in (login_node.logs / "grid").glob("version_*")} == {
        "version_0",
        "version_1",
        "version_2",
    }


def test_a_user_file_among_the_logs_is_ignored(login_node):
    note = login_node.logs / "cifar10/my_trial_notes.txt"
    note.parent.mkdir(parents=True)
    note.write_text("keep me")

    done = login_node.launch()

    assert done.returncode == 0, done.stderr
    assert note.read_text() == "keep me"


@pytest.mark.slow
def test_ten_launches_in_one_second_make_ten_jobs(login_node):
    running = [
        subprocess.Popen(
            login_node.command("--experiment_name=ten"), cwd=login_node.folder, env=login_node.env
        )
        for _ in range(10)
    ]

    codes = [process.wait() for process in running]

    assert codes == [0] * 10
    assert len(login_node.scripts()) == 10
    assert len(set(login_node.scripts())) == 10
    expected = {f"version_{number}" for number in range(10)}
    assert {path.name for path in (login_node.logs / "ten").iterdir()} == expected
    assert {path.parent.name for path in login_node.logs.glob("ten/*/job.sh")} == expected


BAD = {
    "--foo=1": "unknown argument --foo; see python run.py --help",
    "stray": "unknown word 'stray': arguments begin with --",
    "mnist": "unknown word 'mnist'",
    "--batch=32": "unknown argument --batch; did you mean --batch_size?",
    "--batch_size=0": "'0' is not a whole number that is at least 1",
    "--batch_size=1.5": "'1.5' is not a whole number that is at least 1",
    "--batch_size=many": "'many' is not a whole number",
    "--max_epochs=-1": "'-1' is not a whole number that is at least 1",
    "--num_workers=-1": "'-1' is not a whole number from 0 to 256",
    "--learning_rate=nan": "'nan' is not a number from 1e-12 to 1000.0",
    "--learning_rate=inf": "'inf' is not a number",
    "--learning_rate=0": "'0' is not a number",
    "--learning_rate=fast": "'fast' is not a number",
    "--seed=-5": "'-5' is not a whole number from 0 to 4294967295",
    "--seed=4294967296": "is not a whole number from 0 to 4294967295",
    "--nb_trials=9": "'9' is not a whole number from 1 to 5",
    "--experiment_name=a/b": "'a/b' is not a name of up to 64 letters, digits and ._-",
    "--experiment_name=a b": "'a b' is not",
    "--experiment_name=it's": "is not",
    "--experiment_name=a\nb": r"'a\nb' is not",
    "--experiment_name=$(touch PWNED)": "'$(touch PWNED)' is not",
    "--experiment_name=" + "x" * 300: "is not a name of up to 64",
    "--experiment_name=version_0": "(but not with version_ or slurm_)",
    "--email=me": "'me' is not an e-mail address",
    "--local=3": "ignored explicit argument '3'",
    "--test_tube_from_cluster_hopt": "unknown argument --test_tube_from_cluster_hopt",
}


@pytest.mark.slow
def test_an_invalid_value_is_refused_in_one_sentence(login_node):
    results = login_node.drive([[argument] for argument in BAD])

    for (argument, expected), result in zip(BAD.items(), results, strict=True):
        assert result["code"] == 2, argument
        assert expected in result["stderr"]
        assert re.search(r"; see python run.py --help\n$|; did you mean .*\?\n$", result["stderr"])
        assert result["stderr"].count("\n") == 1
        assert result["job"] is None
    assert not login_node.logs.exists()


def one_sentence(done, *parts):
    assert done.returncode not in (0, None), done.stdout
    for part in parts:
        assert part in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr


def test_a_learning_rate_with_trials_is_refused(login_node):
    one_sentence(login_node.launch("--nb_trials=2", "--learning_rate=1"), "remove --learning_rate")


def test_trials_need_slurm(login_node):
    one_sentence(login_node.launch("--nb_trials=2", "--local"), "remove it to train here")


def test_a_launch_from_inside_a_job_is_refused(login_node):
    done = login_node.launch(SLURM_JOB_ID="77")

    one_sentence(done, "this shell is in job 77", "--local")
    assert not login_node.scripts()


@pytest.mark.slow
@pytest.mark.parametrize("local", [[], ["--local"]])
@pytest.mark.parametrize("what", ["a file", "a dead link", "a file for the experiment"])
def test_a_log_path_that_cannot_be_a_folder_is_reported(login_node, what, local):
    if what == "a dead link":
        login_node.logs.symlink_to("/purged/scratch")
    elif what == "a file":
        login_node.logs.write_text("keep me")
    else:
        login_node.logs.mkdir()
        (login_node.logs / "cifar10").write_text("keep me")

    done = login_node.launch(*local)
    shutil.rmtree(login_node.logs) if what.endswith("experiment") else login_node.logs.unlink()

    one_sentence(done, "cannot create a folder in logs/cifar10", "choose another --log_path")
    assert not login_node.scripts()


def test_a_saved_script_is_not_overwritten(login_node):
    kept = login_node.logs / "cifar10/version_0/job.sh"
    kept.parent.mkdir(parents=True)
    kept.write_text("keep me")

    done = login_node.launch()

    assert done.stdout.endswith("-> logs/cifar10/version_1\n")
    assert kept.read_text() == "keep me"


SITES = {
    "exit 0": "site.sh has ended this script: fix the error above, or remove the exit from site.sh",
    "exit 3": "site.sh has ended this script: fix the error above, or remove the exit from site.sh",
    "set -u; echo $NOPE": "NOPE: unbound variable",
    "set -e; nosuchcommand": "nosuchcommand: command not found",
    "if": "syntax error",
}


@pytest.mark.slow
@pytest.mark.parametrize("line", SITES)
def test_a_failing_site_file_submits_nothing_and_says_why(login_node, line):
    (login_node.folder / "site.sh").write_text(f"{line}\n")

    done = login_node.launch()
    (login_node.folder / "site.sh").unlink()

    assert done.returncode == 1
    assert done.stderr.startswith("not submitted: ")
    assert SITES[line] in done.stderr
    assert done.stderr.count("\n") == 1
    assert not login_node.scripts()
    assert not list(login_node.logs.rglob("version_*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "answer",
    [
        "echo warning: maintenance; echo 55",
        "echo '55;cluster'",
        "printf 'Gr\\xfcsse\\n55\\n'",
        "echo Submitted batch job 55",
        "echo Submitted batch job 55 on cluster x",
        "echo 55; echo 3 hours are left of your budget",
        "echo job 7 will be charged to you; echo 55",
    ],
)
def test_the_job_id_is_found_in_any_sbatch_output(login_node, answer):
    login_node.install("sbatch", f"#!/bin/bash\n{answer}\n")

    done = login_node.launch()

    assert done.returncode == 0, done.stderr
    assert done.stdout == "job 55 -> logs/cifar10/version_0\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    "answer",
    [
        "exit 0",
        "echo accepted",
        "echo 55; echo 1000",
        "echo 55; exit 1",
        "echo your request was sent >&2",
    ],
)
def test_what_may_belong_to_a_job_is_kept_if_the_answer_of_sbatch_is_unclear(login_node, answer):
    login_node.install("sbatch", f"#!/bin/bash\n{answer}\n")

    done = login_node.launch("--nb_trials=3")
    following = login_node.launch()

    one_sentence(done, "perhaps submitted: ", "squeue --me", "cifar10/version_0/job.sh")
    assert (login_node.logs / "cifar10/version_0/job.sh").is_file()
    assert (login_node.logs / "cifar10/version_0/code/run.py").is_file()
    one_sentence(following, "cifar10/version_1/job.sh")


def test_variables_left_in_the_shell_do_not_override_the_script(login_node):
    left = {"SBATCH_ARRAY_INX": "0-2", "SBATCH_OUTPUT": "x", "SBATCH_TIMELIMIT": "1"}
    left["SBATCH_WAIT"] = "1"
    login_node.install("sbatch", '#!/bin/bash\nenv > "$RECORD/env"\necho 5\n')

    login_node.launch(**left, SBATCH_PARTITION="mine")

    seen = (login_node.record / "env").read_text()
    assert [name for name in left if f"{name}=" in seen] == []
    assert "SBATCH_PARTITION=mine\n" in seen


# as sbatch does: its options override its variables, and these override the lines of the script
PRECEDENCE = """#!/bin/bash
for option in job-name mem mem-per-cpu time constraint; do
    declare -n variable=SBATCH_$(tr a-z- A-Z_ <<<$option)
    [ $option = time ] && declare -n variable=SBATCH_TIMELIMIT
    [ $option = mem ] && declare -n variable=SBATCH_MEM_PER_NODE
    value=$(sed -n "s/^#SBATCH --$option=//p" "${@: -1}")
    value=${variable:-$value}
    for word; do case $word in --$option=*) value=${word#*=} ;; esac; done
    echo "$option=$value"
done >"$RECORD/seen"
echo 5
"""
LIMITS = "export SBATCH_TIMELIMIT=30 SBATCH_MEM_PER_NODE=2G SBATCH_CONSTRAINT=cpu\n"
SETTINGS = {
    "the site sets nothing": ("", [], {"time": "01:00:00", "mem": "4096M"}),
    "the site has limits": (LIMITS, [], {"time": "30", "mem": "2G", "constraint": "cpu"}),
    "the command line is more specific": (
        LIMITS,
        ["--time-min", "10", "--mem_gb=1", "--", "--constraint=a b"],
        {"time": "00:10:00", "mem": "1024M", "constraint": "a b"},
    ),
    "the default is given": (LIMITS, ["--time_min=60"], {"time": "01:00:00", "mem": "2G"}),
    "the site counts memory per CPU": (
        "export SBATCH_MEM_PER_CPU=2G\n",
        [],
        {"mem": "", "mem-per-cpu": "2G"},
    ),
    "the site refuses --mem": ("export NO_MEM=yes\n", [], {"mem": "", "time": "01:00:00"}),
    "memory is given all the same": ("export NO_MEM=yes\n", ["--mem_gb=3"], {"mem": "3072M"}),
    "the site names its jobs": ("export SBATCH_JOB_NAME='a b'\n", [], {"job-name": "a b"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", SETTINGS)
def test_the_site_overrides_the_defaults_and_the_command_line_the_site(login_node, case):
    lines, arguments, expected = SETTINGS[case]
    (login_node.folder / "site.sh").write_text(lines)
    login_node.install("sbatch", PRECEDENCE)
    left = {"SBATCH_TIMELIMIT": "7", "SBATCH_MEM_PER_CPU": "7", "NO_MEM": ""}

    done = login_node.launch(*arguments, **left)
    shown = login_node.launch("--dry-run", *arguments, **left).stdout
    (login_node.folder / "site.sh").unlink()

    assert done.returncode == 0, done.stderr
    seen = dict(
        line.split("=", 1) for line in (login_node.record / "seen").read_text().split("\n")[:-1]
    )
    assert {name: seen[name] for name in expected} == expected
    # the script shows what Slurm does
    for option in {"time", "mem", "mem-per-cpu", "job-name"} & expected.keys():
        [*line] = re.findall(f'^#SBATCH --{option}="?(.*?)"?$', shown, re.MULTILINE)
        assert line == [expected[option]] * bool(expected[option])


def test_a_closed_output_does_not_undo_the_job(login_node):
    command = f"{sys.executable} -u run.py | true"

    subprocess.run(["bash", "-c", command], cwd=login_node.folder, env=login_node.env, check=False)

    assert len(login_node.scripts()) == 1
    assert (login_node.logs / "cifar10/version_0/job.sh").exists()
    assert (login_node.logs / "cifar10/version_0/code").exists()


WITHOUT_PACKAGES = [sys.executable, "-S", "-E", "run.py"]


def test_a_launch_needs_only_python_itself(login_node):
    done = login_node.clone.run(*WITHOUT_PACKAGES, env=login_node.env)

    assert done.returncode == 0, done.stderr
    assert len(login_node.scripts()) == 1


@pytest.mark.parametrize("arguments", [["--local"], ["--nb_trials=2"]], ids=["train", "trials"])
def test_a_python_without_the_packages_asks_to_activate_the_environment(login_node, arguments):
    done = login_node.clone.run(*WITHOUT_PACKAGES, *arguments, env=login_node.env)

    one_sentence(done, "a package is missing", "source env/bin/activate", "No module named")


@pytest.mark.parametrize("name", ["100%j", "back\\slash", 'a "quote"'])
def test_a_path_that_slurm_would_expand_is_refused(login_node, tmp_path, name):
    shutil.copytree(
        login_node.folder, tmp_path / name, ignore=shutil.ignore_patterns(".git", "data")
    )
    (tmp_path / name / "data").symlink_to(login_node.folder / "data")

    done = subprocess.run(
        login_node.command(),
        cwd=tmp_path / name,
        env=login_node.env,
        capture_output=True,
        text=True,
    )

    one_sentence(done, "not submitted: Slurm cannot write logs below", "without % and")


def test_the_path_of_a_clone_reaches_sbatch_unchanged(login_node, tmp_path):
    clone = tmp_path / "it's (mine) & ~x $HOME"
    shutil.copytree(login_node.folder, clone, ignore=shutil.ignore_patterns(".git", "data"))
    (clone / "data").symlink_to(login_node.folder / "data")

    done = login_node.clone.run(*login_node.command(), cwd=clone, env=login_node.env)

    assert done.returncode == 0, done.stderr
    [options] = login_node.record.glob("sbatch.*")
    assert f"--chdir={clone}" in options.read_text().split("\0")


@pytest.mark.parametrize("name", ["\u00fcml\u00e4ut", "\udcfcml\udce4ut"])
def test_a_clone_in_a_folder_with_other_letters_is_submitted(login_node, tmp_path, name):
    clone = tmp_path / name
    shutil.copytree(login_node.folder, clone, ignore=shutil.ignore_patterns(".git", "data"))
    (clone / "data").symlink_to(login_node.folder / "data")
    pipes = {"cwd": clone, "env": {**login_node.env, "PYTHONIOENCODING": "ascii"}}

    done = login_node.clone.run(*login_node.command(), **pipes)
    shown = login_node.clone.run(*login_node.command("--dry-run"), **pipes)

    assert (done.returncode, shown.returncode) == (0, 0), done.stderr + shown.stderr
    [script] = login_node.record.glob("script.*")
    assert b'#SBATCH --chdir="%s"\n' % os.fsencode(clone) in script.read_bytes()


@pytest.mark.parametrize("branch", [BRANCHES[0], ARGUMENTS_LESSON])
def test_given_paths_begin_at_the_current_folder_and_defaults_at_the_root(
    login_node, tmp_path, branch
):
    login_node.clone.git("switch", "--quiet", branch)
    program = [sys.executable, login_node.folder / "run.py", "--dry-run"]
    elsewhere = {"cwd": tmp_path, "env": login_node.env}

    given = login_node.clone.run(*program, "--log-path", "a b", "--data_dir=c", **elsewhere).stdout
    default = login_node.clone.run(*program, **elsewhere).stdout
    inside = {**elsewhere, "cwd": login_node.folder / "docs"}
    below = login_node.clone.run(*program, "--log_path=x", **inside).stdout

    assert f"'--log_path={tmp_path}/a b' " in given
    assert f"--data_dir={tmp_path}/c " in given
    assert f'#SBATCH --output="{tmp_path}/a b/' in given
    assert "--log_path=logs " in default
    assert "--data_dir" not in default
    assert "--log_path=docs/x " in below
    for script in (given, default, below):
        assert f'#SBATCH --chdir="{login_node.folder}"\n' in script


def test_a_current_folder_that_slurm_cannot_use_is_reported(login_node, tmp_path):
    folder = tmp_path / "a (b)"
    folder.mkdir()
    program = [sys.executable, login_node.folder / "run.py", "--dry-run"]

    done = login_node.clone.run(*program, "--log_path=x", cwd=folder, env=login_node.env)

    one_sentence(done, "run.py: argument --log_path: ", "is not a path that consists")


@pytest.mark.slow
def test_all_processes_write_to_the_folder_that_was_given(login_node, tmp_path):
    program = [sys.executable, login_node.folder / "run.py", "--local", "--devices=2"]
    network = ["--arch=fully_connected", "--max_epochs=1", "--accelerator=cpu"]

    done = login_node.clone.run(*program, *network, "--log_path=x", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "x/cifar10/version_0/DONE.json").exists()
    assert not login_node.logs.exists()


FOREIGN = {"src/__init__.py": "", "data/__init__.py": ""}


@pytest.mark.parametrize("branch", [BRANCHES[0], ARGUMENTS_LESSON])
@pytest.mark.parametrize("variable", ["PYTHONPATH", "PYTHONSAFEPATH", "PYTHONOPTIMIZE"])
def test_the_program_of_the_repository_is_started(login_node, tmp_path, branch, variable):
    login_node.clone.git("switch", "--quiet", branch)
    for name in FOREIGN:
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    value = str(tmp_path) if variable == "PYTHONPATH" else "2"

    usual = login_node.launch("--dry-run")
    done = login_node.launch("--dry-run", **{variable: value})

    assert (done.returncode, done.stdout) == (0, usual.stdout), done.stderr


def test_another_package_of_the_same_name_is_named(login_node, tmp_path):
    (tmp_path / "test_tube.py").touch()

    done = login_node.launch("--nb_trials=2", PYTHONPATH=str(tmp_path))

    one_sentence(
        done, "another package has this name: check PYTHONPATH", f"{tmp_path}/test_tube.py"
    )


def test_a_python_that_is_too_old_asks_to_activate_the_environment(login_node, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import itertools\ndel itertools.pairwise\n")

    done = login_node.launch(PYTHONPATH=str(tmp_path))

    one_sentence(done, "this Python is too old", "source env/bin/activate")


def test_a_missing_file_of_the_program_is_named(login_node):
    (login_node.folder / "src/launch/paths.py").unlink()

    done = login_node.launch()
    login_node.clone.git("checkout", "--quiet", ".")

    one_sentence(done, "No module named 'src.launch.paths': a file of this repository is missing,")


def test_the_job_uses_the_data_folder_of_the_site(login_node):
    done = login_node.launch(DATA_DIR="/somewhere")

    [script] = login_node.scripts()
    assert done.returncode == 0
    assert "--data_dir" not in script


def test_a_cluster_without_sbatch_differs_from_no_cluster(login_node):
    (login_node.bin / "sbatch").unlink()
    path = f"{login_node.bin}:{Path(sys.executable).parent}"
    for name in ("bash", "cat"):
        (login_node.bin / name).symlink_to(f"/bin/{name}")

    done = login_node.launch(PATH=path, SLURM_CONF="/etc/slurm/slurm.conf")

    one_sentence(done, "sbatch: command not found", "--local")
    assert not list(login_node.logs.rglob("version_*"))


@pytest.mark.slow
@pytest.mark.parametrize("code", [1, 3])
def test_a_refusal_of_sbatch_is_passed_on_and_leaves_nothing(login_node, code):
    login_node.install(
        "sbatch", f"#!/bin/bash\necho 'sbatch: error: no such partition' >&2\nexit {code}"
    )

    done = login_node.launch()

    one_sentence(done, "not submitted: sbatch: error: no such partition; see sinfo")
    assert not list(login_node.logs.rglob("version_*"))


def test_the_lines_that_a_wrapper_prints_do_not_hide_why_sbatch_refuses(login_node):
    login_node.install(
        "sbatch",
        "#!/bin/bash\necho '--> Verifying submit host...OK' >&2\necho 'Balance: 7 hours'\n"
        "echo 'sbatch: Verify job submission ... OK' >&2\n"
        "echo 'sbatch: error: name your account' >&2\n"
        "echo 'sbatch: error: Batch job submission failed: Unspecified error' >&2\n"
        "echo 'sbatch: see https://docs.example.org for help' >&2\nexit 1",
    )

    done = login_node.launch()

    why = "sbatch: error: name your account sbatch: error: Batch job submission failed: Unspecified"
    one_sentence(done, f"not submitted: {why} error; see sinfo and site.sh")


def test_a_refusal_of_sbatch_leaves_a_run_that_continues(login_node):
    run = login_node.logs / "cifar10/version_0"
    login_node.launch()
    command = (run / "command.txt").read_text()
    login_node.install("sbatch", "#!/bin/bash\necho 'no such partition' >&2\nexit 1")

    done = login_node.launch(f"--resume={run}", "--max_epochs=20")

    one_sentence(done, "not submitted: no such partition")
    assert (run / "code/run.py").is_file()
    assert (run / "command.txt").read_text() == command


def test_sbatch_sees_the_settings_of_the_site(login_node):
    (login_node.folder / "site.sh").write_text("export SBATCH_PARTITION=workshop\necho hello\n")
    login_node.install(
        "sbatch", '#!/bin/bash\necho "$SBATCH_PARTITION" > "$RECORD/partition"\necho 5\n'
    )

    done = login_node.launch()
    (login_node.folder / "site.sh").unlink()

    assert done.stdout == "job 5 -> logs/cifar10/version_0\n"
    assert (login_node.record / "partition").read_text() == "workshop\n"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["experiment_name", "log_path", "data_dir", "email"])
def test_a_hostile_value_arrives_unchanged_or_is_refused(login_node, name):
    results = login_node.drive([[f"--{name}={value}"] for value in HOSTILE])

    for value, result in zip(HOSTILE, results, strict=True):
        got = [word for word in result["job"] or () if word.startswith(f"--{name}=")]
        assert result["crash"] is None, value
        if result["code"] == 0:
            # the e-mail address appears only in the header
            assert got == ([] if name == "email" else [f"--{name}={value}"])
        else:
            assert result["job"] is None
    assert not [path for path in login_node.folder.rglob("*PWNED*") if path.is_file()]
