"""cluster/job_env.sh, which every job sources, without a cluster: make test-fast."""

import os
import shlex
import shutil
import subprocess
import sys

import pytest

from clone import ROOT
from login_node import WRAPPERS
from practice_cluster import clean_environment
from src.launch.processes import PIPE
from src.utils.slurm import LAUNCHERS, RANKS

SCRIPT = "set -euo pipefail\nsource cluster/job_env.sh\nsrun $PYTHON -c {program}\n"


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


class Site:
    """A folder with the scripts of cluster/, and a site.sh."""

    def __init__(self, folder):
        self.folder = folder
        shutil.copytree(ROOT / "cluster", folder / "cluster", ignore=ignore_what_is_not_a_script)
        self.env = {**clean_environment(), "VENV": sys.prefix}
        self.env.pop("PYTHON", None)

    def write(self, text):
        (self.folder / "site.sh").write_text(text)

    def install(self, path, text):
        """Write a program, and return its path."""
        path = self.folder / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(0o755)
        return path

    def run(self, program="print('hello')", script=SCRIPT, **env):
        text = script.format(program=shell_quoted(program))
        pipes = {"capture_output": True, "text": True}
        env = {**self.env, **env}
        return subprocess.run(["bash", "-c", text], cwd=self.folder, env=env, check=False, **pipes)


def ignore_what_is_not_a_script(folder, names):
    return [name for name in names if not name.endswith(".sh")]


def shell_quoted(text):
    return "'" + text.replace("'", "'\\''") + "'"


# --- Python


def test_the_environment_of_the_site_is_activated(site):
    done = site.run("import sys; print(sys.prefix)")

    assert done.stdout == f"{sys.prefix}\n", done.stderr


@pytest.mark.parametrize("kind", WRAPPERS)
def test_a_command_that_runs_python_passes_on_program_and_exit_code(site, kind):
    site.install("bin/container", f'[ "$1 $2" = "exec image.sif" ]; shift 3\n{WRAPPERS[kind]}')
    site.write(f'export PATH="{site.folder}/bin:$PATH" PYTHON="container exec image.sif python"\n')

    done = site.run("import sys; print(sys.prefix); sys.exit(7)", REAL_PYTHON=sys.executable)

    assert (done.returncode, done.stdout) == (7, f"{sys.prefix}\n"), done.stderr


@pytest.mark.parametrize("kind", WRAPPERS)
@pytest.mark.parametrize(("signal", "name"), [(9, "KILL"), (15, "TERM")])
def test_a_signal_passes_through_a_command_that_runs_python(site, kind, signal, name):
    wrapper = site.install("wrapper", WRAPPERS[kind])
    site.write(f'export PYTHON="{wrapper}"\n')

    done = site.run(f"import os; os.kill(os.getpid(), {signal})", REAL_PYTHON=sys.executable)

    assert done.returncode == 128 + signal
    assert f"A process was ended by SIG{name}. If a line above names memory" in done.stderr


@pytest.mark.parametrize("words", ["", " exec image.sif python"])
def test_the_command_may_be_in_a_folder_with_spaces(site, words):
    skip = "shift 3; " if words else ""
    wrapper = site.install("my scratch/bin/python-7", f'{skip}exec "$REAL_PYTHON" "$@"')
    site.write(f'export PYTHON="{wrapper}{words}"\n')

    done = site.run(REAL_PYTHON=sys.executable)

    assert done.stdout == "hello\n", done.stderr


def test_a_command_that_looks_for_python_finds_that_of_the_site(site):
    site.install("module/python", 'exec "$REAL_PYTHON" "$@"')
    site.write(f'export PATH="{site.folder}/module:$PATH" PYTHON="/usr/bin/env python"\n')

    done = site.run("import sys; print(sys.prefix)", REAL_PYTHON=sys.executable)

    assert done.stdout == f"{sys.prefix}\n", done.stderr


def test_a_missing_command_is_reported_in_one_sentence(site):
    site.write('export PYTHON="apptainer-9 exec image.sif python"\n')

    done = site.run()

    assert done.returncode == 1
    assert "PYTHON in site.sh is 'apptainer-9 exec image.sif python', which does not" in done.stderr
    assert "load its module in site.sh" in done.stderr
    assert "apptainer-9: command not found" in done.stderr


@pytest.mark.parametrize("command", ['"python3" -u', r"/my\ software/python"])
def test_quotes_inside_a_command_are_named_as_the_cause(site, command):
    site.write(f"export PYTHON={shlex.quote(command)}\n")

    done = site.run()

    assert (done.returncode, done.stdout) == (1, "")
    assert "remove the quotes and backslashes inside it" in done.stderr


@pytest.mark.parametrize("command", ["true", "echo 42 or so", "if", "cat"])
def test_a_command_that_does_not_run_python_does_not_look_like_a_training(site, command):
    site.write(f'export PYTHON="{command}"\n')

    done = site.run()

    assert (done.returncode, done.stdout) == (1, "")
    assert f"PYTHON in site.sh is '{command}', which does not run Python here" in done.stderr


def test_a_command_may_print_its_own_lines_before_python_starts(site):
    wrapper = site.install("wrapper", 'echo "loading the image"; exec "$REAL_PYTHON" "$@"')
    site.write(f'export PYTHON="{wrapper}"\n')

    done = site.run(REAL_PYTHON=sys.executable)

    assert done.stdout == "loading the image\nhello\n", done.stderr


def test_spaces_around_the_command_are_ignored(site):
    site.write(f'export PYTHON="  {sys.executable}  -u "\n')

    done = site.run()

    assert done.stdout == "hello\n", done.stderr


def test_a_site_that_changes_the_folder_does_not_move_the_job(site):
    site.write("cd /\n")

    done = site.run("import os; print(os.getcwd())")

    assert done.stdout == f"{site.folder}\n", done.stderr


def test_sourcing_the_environment_elsewhere_is_refused_in_one_sentence(site, tmp_path_factory):
    script = f"set -euo pipefail\nsource {site.folder}/cluster/job_env.sh\n"
    elsewhere = tmp_path_factory.mktemp("elsewhere")

    done = subprocess.run(["bash", "-c", script], cwd=elsewhere, capture_output=True, text=True)

    assert done.returncode == 1
    sentence = "source cluster/job_env.sh in the repository's root.\n"
    assert done.stderr == f"No cluster/site_env.sh in {elsewhere}: {sentence}"


def test_an_environment_that_was_moved_is_used(site):
    site.install("env/bin/python", 'exec "$REAL_PYTHON" "$@"')
    site.install("env/bin/activate", 'PATH="/old/path/env/bin:$PATH"')

    done = site.run(REAL_PYTHON=sys.executable, VENV="env", PATH="/usr/bin:/bin")

    assert done.stdout == "hello\n", done.stderr


def test_an_environment_without_its_python_is_reported_in_one_sentence(site):
    site.install("env/bin/activate", "")
    (site.folder / "env/bin/python").symlink_to("/module/not/loaded/bin/python3")

    done = site.run(VENV="env")

    assert done.returncode == 1
    assert done.stderr.startswith("env/bin/python does not run here: load the module of its Python")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("line", ["false", "return 3", ": $UNSET; false | true", "[ -d /x ]"])
def test_an_activate_script_that_fails_does_not_end_the_job(site, line):
    site.install("env/bin/python", 'exec "$REAL_PYTHON" "$@"')
    site.install("env/bin/activate", line)

    done = site.run(REAL_PYTHON=sys.executable, VENV="env")

    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr


def test_a_python_variable_left_in_the_shell_is_ignored(site):
    done = site.run(PYTHON="/usr/bin/false")

    assert done.stdout == "hello\n", done.stderr


def test_a_missing_environment_is_reported_in_one_sentence(site):
    done = site.run(VENV="/nowhere")

    assert done.returncode == 1
    assert done.stderr.startswith(f"No Python environment at /nowhere (seen from {site.folder}): ")
    assert done.stderr.endswith("or set VENV or PYTHON in site.sh.\n")
    assert done.stderr.count("\n") == 1


# --- processes


def test_a_job_finds_the_program_in_the_current_folder(site):
    done = site.run("import sys; print(sys.path[0] == '')", PYTHONSAFEPATH="1")

    assert done.stdout == "True\n", done.stderr


def test_outside_a_job_the_program_runs_here_on_one_thread(site):
    site.install("bin/srun", "echo srun was called >&2; exit 3")

    done = site.run(
        "import os; print(os.environ['OMP_NUM_THREADS'])", PATH=f"{site.folder}/bin:/usr/bin:/bin"
    )

    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


def test_in_a_job_srun_gets_cpus_and_environment_and_ends_all_tasks_together(site):
    names = ("SRUN_CPUS_PER_TASK", "SLURM_EXPORT_ENV", "SLURM_KILL_BAD_EXIT", "PYTHONUNBUFFERED")
    site.install("bin/srun", f"printenv {' '.join(names)} SLURM_OVERLAP")

    done = site.run(
        PATH=f"{site.folder}/bin:{os.environ['PATH']}", SLURM_JOB_ID="1", SLURM_CPUS_PER_TASK="5"
    )

    assert done.stdout.split() == ["5", "ALL", "1", "1", "1"], done.stderr


LEFT_OVER = [*RANKS, *LAUNCHERS, PIPE, "MASTER_ADDR", "MASTER_PORT"]


@pytest.mark.parametrize("job", [{}, {"SLURM_JOB_ID": "1"}], ids=["no job", "job"])
def test_variables_of_other_launchers_do_not_reach_the_program(site, job):
    site.install("bin/srun", '"$@"')
    site.env["PATH"] = f"{site.folder}/bin:{os.environ['PATH']}"

    done = site.run(
        f"import os; print([name for name in {LEFT_OVER} if name in os.environ])",
        **dict.fromkeys(LEFT_OVER, "1"),
        **job,
    )

    assert done.stdout == "[]\n", done.stderr


def test_the_site_may_set_the_address_of_process_0(site):
    site.write("export MASTER_ADDR=10.0.0.1\n")

    done = site.run("import os; print(os.environ['MASTER_ADDR'])", MASTER_ADDR="nosuch")

    assert done.stdout == "10.0.0.1\n", done.stderr


def test_outside_a_job_no_variable_of_a_task_remains(site):
    names = ["SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_ID"]
    program = f"import os; print([name for name in {names} if name in os.environ])"

    done = site.run(program, **dict.fromkeys(names, "2"))

    assert done.stdout == "[]\n", done.stderr


def test_a_script_that_srun_starts_several_times_is_refused(site):
    done = site.run(SLURM_JOB_ID="1", SLURM_NTASKS="2", SLURM_PROCID="1")

    assert done.returncode == 1
    assert done.stderr.startswith("srun has started this script 2 times")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("tasks", "code"), [("1", 0), ("2", 1)])
def test_a_single_process_program_refuses_more_tasks(site, tasks, code):
    script = SCRIPT.replace("srun $PYTHON", "single_task\nsrun $PYTHON")

    site.install("bin/srun", '"$@"')

    done = site.run(
        script=script,
        PATH=f"{site.folder}/bin:{os.environ['PATH']}",
        SLURM_JOB_ID="1",
        SLURM_NTASKS=tasks,
    )

    assert done.returncode == code
    assert ("This job has 2 tasks, but until lesson 8" in done.stderr) == (code == 1)


# --- site.sh and the end


@pytest.mark.parametrize("line", ["exit 0", "exit 3", "set -e; false", "set -u; echo $NOPE"])
def test_a_site_file_that_ends_the_job_does_not_look_like_a_training(site, line):
    site.write(f"{line}\n")

    done = site.run()

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == (
        "site.sh has ended this script: fix the error above, or remove the exit from site.sh"
    )


HARMLESS = {
    "a test that is false": "[ -d /x ] && export X=1",
    "a variable that is not set": 'export X="$UNSET_BY_THE_SITE:/opt"',
    "a module that is missing": "module load nothing",
    "a failing pipeline": "false | true",
    "a return": "return 3",
    "a variable with the name of ours": "root=/ site=/ PWD=/",
    "a trap": "trap 'echo bye >&2; exit 3' EXIT",
}


@pytest.mark.parametrize("kind", HARMLESS)
def test_what_a_login_shell_ignores_does_not_end_the_job(site, kind):
    site.write(f"export FIRST=1\n{HARMLESS[kind]}\n")

    done = site.run("import os; print(os.environ['FIRST'], os.getcwd())")

    assert (done.returncode, done.stdout) == (0, f"1 {site.folder}\n"), done.stderr


def test_errors_after_the_site_file_end_the_job(site):
    site.write("set +e\n")

    for failure in ("false", "echo $NOPE", "false | true"):
        done = site.run(script=f"source cluster/job_env.sh\n{failure}\necho too far\n")
        assert (done.returncode, done.stdout) == (1, ""), failure


def test_a_site_file_does_not_see_the_arguments_of_a_script_and_keeps_them(site):
    site.write('echo "$# for the site"; set -- other\n')

    done = site.run(script='set -- "a b" c\nsource cluster/job_env.sh\nprintf "%s\\n" "$@"\n')

    assert done.stdout == "0 for the site\na b\nc\n", done.stderr


def test_a_site_file_with_a_syntax_error_is_reported(site):
    site.write("export VENV=/other\nif [ x = ; then\n")

    done = site.run()

    assert (done.returncode, done.stdout) == (1, "")
    assert "site.sh: line 3: syntax error" in done.stderr
    assert done.stderr.splitlines()[-1] == "site.sh cannot be read: fix the error above"


@pytest.mark.parametrize("text", ["export A=1\r\n", "\ufeffexport A=1\n"])
def test_a_site_file_from_windows_is_refused_in_one_sentence(site, text):
    (site.folder / "site.sh").write_bytes(text.encode())

    refused = site.run()
    remedy = refused.stderr.split("convert it with ")[1]
    site.run(script=remedy)
    done = site.run("import os; print(os.environ['A'])")

    assert refused.returncode == 1
    assert refused.stderr.startswith("site.sh was saved in the format of Windows: ")
    assert refused.stderr.count("\n") == 1
    assert done.stdout == "1\n", done.stderr


def test_a_site_file_that_is_a_dead_link_is_not_overlooked(site):
    (site.folder / "site.sh").symlink_to("/nowhere/site.sh")

    done = site.run()

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "site.sh cannot be read: fix the error above"


@pytest.mark.parametrize(
    ("code", "name"), [(137, "SIGKILL"), (143, "SIGTERM"), (253, "SIGNAL 125"), (1, None)]
)
def test_a_script_names_the_signal_and_keeps_the_exit_code(site, code, name):
    done = site.run(script=f"set -euo pipefail\nsource cluster/job_env.sh\n(exit {code})\n")

    assert done.returncode == code
    assert done.stderr.count("\n") == (1 if name else 0)
    assert name is None or f"A process was ended by {name}. " in done.stderr
