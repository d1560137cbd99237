"""docs/sites.md: its lines of site.sh in real job scripts, and cluster/apptainer.def: make test."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from layers import SHARED

from clone import ROOT
from practice_cluster import clean_environment
from src.launch.job import Job
from src.launch.layout import gpus_per_node

PAGE = (ROOT / "docs/sites.md").read_text()
SITE_FILES = re.findall(r"^ *```bash no-run site\.sh\n(.*?)^ *```", PAGE, re.MULTILINE | re.DOTALL)
WITHOUT_MEM = re.search(r"^```bash no-run without-mem\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[
    1
]
DEFINITION = (ROOT / "cluster/apptainer.def").read_text()
WORDS = ["--experiment_name=two words", '--note=it\'s $HOME; "quoted" *']

# what stands for the programs of a site; each refuses what the real one would refuse
STAND_INS = {
    "apptainer": """
[ "$1" = exec ] || exit 90
shift
while [ "${1#--}" != "$1" ]; do echo "apptainer $1" >>"$RECORD"; shift; done
[ -f "$1" ] || { echo "FATAL: no image $1" >&2; exit 91; }
shift
[ "$1" = python ] || { echo "FATAL: $1: executable file not found" >&2; exit 92; }
shift
export SEEN_IN=image
exec "$REAL_PYTHON" "$@"
""",
    # an srun that is called with one word instead of several finds no such program
    "srun": 'printf "%s\\n" "srun $1" >>"$RECORD"; exec "$@"',
}
PYTHON = 'export SEEN_IN="$(cd "$(dirname "$0")" && pwd)"; exec "$REAL_PYTHON" "$@"'
# a shell function, as on a cluster; it prints what it is told, as some modules do
MODULE = '() { echo "module $*" >>"$RECORD"; [ "$1 $2" = "load pytorch/2.14" ] && echo loaded; }'
PROGRAM = """
import json, os, sys
print(json.dumps([os.environ["SEEN_IN"], os.environ.get("CUDA_VISIBLE_DEVICES"), sys.argv[1:]]))
sys.exit(7)
"""


class Site:
    """A repository at a site that has all that the page speaks of, in a folder with a space."""

    def __init__(self, folder):
        self.root, self.shared, self.bin = folder / "my work", folder / "shared", folder / "bin"
        self.record = folder / "record"
        self.record.touch()
        (self.root / "src").mkdir(parents=True)
        scripts = shutil.ignore_patterns("practice", "*.in", "*.def")
        shutil.copytree(ROOT / "cluster", self.root / "cluster", ignore=scripts)
        for name in ("logs/two words/version_0/code/run.py", "src/main.py"):
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).write_text(PROGRAM)
        for name, text in STAND_INS.items():
            self.install(self.bin / name, text)
        for name in ("hpc", "hpc-site", "hpc-rocm"):
            self.install(self.shared / "envs" / name / "bin/python", PYTHON)
            activate = f'PATH="{self.shared}/envs/{name}/bin:$PATH"\n'
            (self.shared / "envs" / name / "bin/activate").write_text(activate)
        for image in (self.root / "image.sif", self.shared / "images/hpc.sif"):
            image.parent.mkdir(exist_ok=True)
            image.touch()
        self.env = {
            **clean_environment(),
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "REAL_PYTHON": sys.executable,
            "RECORD": str(self.record),
            "BASH_FUNC_module%%": MODULE,
            "CUDA_VISIBLE_DEVICES": "0",
        }
        for name in ("VENV", "PYTHON", "DATA_DIR", "GRES", "PYTHONPATH"):
            self.env.pop(name, None)

    def install(self, path, text):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(0o755)

    def write(self, lines):
        """Write site.sh as the page shows it, with this test's folder for /shared."""
        (self.root / "site.sh").write_text(lines.replace("/shared", str(self.shared)))

    def run(self, script, *words, **env):
        command = ["bash", "-c", script, "job", *words]
        pipes = {"capture_output": True, "text": True}
        env = {**self.env, **env}
        return subprocess.run(command, cwd=self.root, env=env, check=False, **pipes)


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def expected(lines, site):
    """Return where Python must have run, by the lines of a site.sh."""
    if "apptainer" in lines:
        return "image"
    path = re.search(r"(/shared/envs/[\w-]+)", lines)[1]
    return path.replace("/shared", str(site.shared)) + "/bin"


def launcher_script():
    return Job().script("two words", "logs/two words/version_0", WORDS)


def lesson_1_script():
    return (ROOT / "lessons/1-simple-model-training/run.sh").read_text()


# --- the lines of site.sh


def test_the_page_shows_what_the_tests_try():
    kinds = ["VENV=/shared", "PYTHON=/shared", 'PYTHON="apptainer', "module load", 'PYTHON="env -u']

    for kind in kinds:
        assert any(kind in lines for lines in SITE_FILES), kind


def test_every_line_of_the_table_is_shown_in_its_section():
    table = PAGE.split("\n## ")[0]

    lines = re.findall(r"^\| [^|]+ \| `([^`]+)`", table, re.MULTILINE)

    assert len(lines) == 5
    for line in lines:
        assert any(line in shown.splitlines() for shown in SITE_FILES), line


@pytest.mark.parametrize("job", [{}, {"SLURM_JOB_ID": "1"}], ids=["here", "in a job"])
@pytest.mark.parametrize("lines", SITE_FILES)
def test_the_launchers_script_runs_with_the_lines_of_the_page(site, lines, job):
    site.write(lines)

    done = site.run(launcher_script(), **job)

    told = "--local", *WORDS
    assert done.returncode == 7, done.stderr
    seen, gpus, words = json_of(done)
    assert (seen, words) == (expected(lines, site), list(told))
    assert gpus == (None if "env -u" in lines else "0")
    assert ("srun " in site.record.read_text()) == bool(job)


@pytest.mark.parametrize("lines", SITE_FILES)
def test_lesson_1_runs_with_the_lines_of_the_page(site, lines):
    site.write(lines)
    (site.root / "run.sh").write_text(lesson_1_script())

    done = site.run(lesson_1_script(), SLURM_JOB_ID="1", SLURM_SUBMIT_DIR=str(site.root))

    assert done.returncode == 7, done.stderr
    assert json_of(done)[0] == expected(lines, site)


@pytest.mark.parametrize("lines", [text for text in SITE_FILES if "GRES" in text])
def test_the_name_of_a_gpu_stands_in_the_script(site, lines, monkeypatch):
    site.write(lines)
    monkeypatch.chdir(site.root)

    gres = gpus_per_node(2)

    name = re.search(r"export GRES=(\S+)", lines)[1]
    assert f"#SBATCH --gres={name}:2\n" in Job(gres=gres).script("hpc", "logs/hpc/version_0", [])


@pytest.mark.parametrize("lines", [text for text in SITE_FILES if "APPTAINER_BIND" in text])
def test_the_data_folder_is_one_that_the_container_sees(site, lines):
    site.write(lines)
    show = "import os; print(os.environ['DATA_DIR'], os.environ['APPTAINER_BIND'])"

    done = site.run(f"source cluster/job_env.sh; srun $PYTHON -c {shlex.quote(show)}")

    assert done.stdout == f"{site.shared}/data {site.shared}/data\n", done.stderr


@pytest.mark.parametrize("lines", [text for text in SITE_FILES if "apptainer" in text])
def test_a_missing_image_is_named(site, lines):
    site.write(lines)
    for image in site.root.parent.glob("**/*.sif"):
        image.unlink()

    done = site.run(launcher_script())

    assert done.returncode == 1
    assert "which does not run Python here: see the error above" in done.stderr
    assert "FATAL: no image " in done.stderr


def test_a_site_that_refuses_mem_gets_run_sh_without_that_line(site):
    site.write(WITHOUT_MEM)
    (site.root / "run.sh").write_text(lesson_1_script())
    site.install(site.bin / "sbatch", """printf '%s\\n' "$@"; [ -t 0 ] || cat""")

    done = site.run(
        "source site.sh; sbatch --nodes=2 run.sh 'two words'; sbatch --wrap=ls </dev/null"
    )

    kept = [line for line in lesson_1_script().splitlines() if "SBATCH --mem" not in line]
    assert len(kept) == len(lesson_1_script().splitlines()) - 1
    words = ["--nodes=2", "/dev/stdin", "two words"]
    assert done.stdout.splitlines() == [*words, *kept, "--wrap=ls"]


def test_a_line_with_an_unset_variable_is_read_as_in_a_login_shell(site):
    site.env.pop("LD_LIBRARY_PATH", None)
    site.write("export LD_LIBRARY_PATH=/opt/lib:$LD_LIBRARY_PATH\nexport VENV=/shared/envs/hpc\n")

    done = site.run(launcher_script())

    assert done.returncode == 7, done.stderr


def test_links_of_the_page_work_on_the_lesson_branches():
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)\)", PAGE):
        path = (ROOT / "docs" / target).resolve().relative_to(ROOT)

        assert path.parts[0] in SHARED, f"{target} is not on the branches"


def json_of(done):
    return json.loads(done.stdout.splitlines()[-1])


# --- the image


def sections(text):
    """Return the sections of a definition file by name, with its arguments filled in."""
    found = dict(re.findall(r"^%(\w+)\n(.*?)(?=^%|\Z)", text, re.MULTILINE | re.DOTALL))
    values = dict(re.findall(r"^ +(\w+)=(.*)$", found["arguments"], re.MULTILINE))
    header = text.split("\n%")[0]
    fill = re.compile(r"{{ (\w+) }}")
    parts = {"header": header, **found}
    return {name: fill.sub(lambda match: values[match[1]], part) for name, part in parts.items()}


def test_the_image_has_a_python_of_the_course_with_an_exact_version():
    header = sections(DEFINITION)["header"]

    assert header.startswith("Bootstrap: docker\nFrom: ")
    assert re.search(r"^From: python:3\.1[123]\.\d+-slim-\w+$", header, re.MULTILINE)


def test_the_image_takes_its_packages_from_a_file_of_the_repository():
    source, target = sections(DEFINITION)["files"].split()

    assert source in SHARED
    assert f"-r {target}\n" in sections(DEFINITION)["post"]


@pytest.mark.parametrize("name", ["post", "environment", "test"])
def test_the_scripts_of_the_image_are_shell(name):
    script = sections(DEFINITION)[name]

    done = subprocess.run(["sh", "-n"], input=script, capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")


def test_the_environment_of_the_image_keeps_foreign_packages_out(tmp_path):
    (tmp_path / "torch.py").write_text("raise SystemExit('a foreign torch')\n")
    show = "import os, sys; print(sys.flags.no_user_site, os.environ['PYTHONPATH'] == '')"
    script = f'{sections(DEFINITION)["environment"]}\n{sys.executable} -c "{show}"'

    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(["sh", "-c", script], env=env, capture_output=True, text=True)

    assert done.stdout == "1 True\n", done.stderr


@pytest.mark.slow
def test_the_image_tests_itself_with_the_packages_that_the_lessons_import():
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    script = sections(DEFINITION)["test"]
    done = subprocess.run(["sh", "-c", script], env=env, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert re.search(r"^Python 3\.\d+\.\d+\ntorch 2\.", done.stdout), done.stdout
    assert "\nlightning 2." in done.stdout


def test_the_help_of_the_image_says_what_the_page_says():
    line = re.search(r"In site.sh: +(.*)", sections(DEFINITION)["help"])[1]

    assert any(line in lines.splitlines() for lines in SITE_FILES)
