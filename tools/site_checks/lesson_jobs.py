"""Rows about the jobs of the lessons, taken from their own files: would Slurm accept them?"""

from __future__ import annotations

import io
import re
import shlex
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

from layers import git, read_lessons, read_tree, snapshot

from lessons import export
from site_checks.report import FAIL, PASS, SKIPPED, WARN, Answer, Report, shortened
from site_checks.site_file import Site, without_count
from site_checks.slurm import Partition, sentence, submit_trial
from src.config.values import minutes

ROWS = ["jobs of the lessons", "GPU job"]
# arguments of run.py that change what a job requests, in lessons 4 to 9 and in lesson 10
SHAPING = re.compile(
    r"--(num_nodes|devices|num_workers|mem_gb|time_min|accelerator)|slurm\.|data\.num_w"
)
NOT_A_JOB = re.compile(r"--(local|dry-run|print-config|resume|from|help)\b|[$|]")
# what run.py of lesson 10 says then; a row of its own warns of that
WITHOUT_PACKAGES = "activate the environment"
# options that decide whether Slurm accepts a job
RESOURCES = re.compile(
    r"#SBATCH --(nodes|ntasks\S*?|cpus\S*?|mem\S*?|time|gres|gpus\S*?|signal|requeue)\b"
)
# site.sh may define a function sbatch, which removes --mem for sites that refuse it
BY_HAND = "source cluster/site_env.sh >&2; sbatch --test-only run.sh"
WITHOUT_MEM = 'the function sbatch of docs/sites.md ("A site that refuses --mem")'
CURES = {
    r"memory|--mem\b": "where sbatch refuses --mem, write into site.sh: export NO_MEM=yes"
    f" and, for run.sh, {WITHOUT_MEM}\n"
    "if it is too much memory for one node: export SBATCH_MEM_PER_NODE=<such as 2G>",
    r"time limit|timelimit|time": "write the site's limit into site.sh: export"
    " SBATCH_TIMELIMIT={limit}",
    r"gres|generic": "write the site's name for its GPUs into site.sh, such as export"
    " GRES=gpu:a100 (sinfo --format=%G lists the names)",
    r"node count|node configuration|processors|cpus": "no node of the partition is large enough,"
    " or it has too few nodes; name another one in site.sh: export SBATCH_PARTITION=<name>",
    r"account": "write your account into site.sh: export SBATCH_ACCOUNT=<name>",
    r"partition": "write another partition into site.sh: export SBATCH_PARTITION=<name>",
    r"qos": "write a QOS that allows it into site.sh: export SBATCH_QOS=<name>",
}
# causes for which sbatch refuses other jobs too
NOT_GPUS = r"memory|--mem\b|time ?limit|account|qos"


@dataclass
class Shape:
    """A batch script, and the lessons whose jobs request the same."""

    script: Path
    by_hand: bool  # submitted with sbatch, not by run.py
    lessons: list[int] = field(default_factory=list)
    command: str = ""
    refused: str = ""  # why run.py writes no script


def export_lessons(report: Report, folder: Path) -> dict[int, Path]:
    """Write the files of every lesson into a folder, with this site's files beside them."""
    found = {}
    try:
        with redirect_stdout(io.StringIO()), snapshot() as (tree, env):
            files = read_tree(tree, env)
            for lesson in read_lessons(files, env):
                target = folder / f"lesson-{lesson.number}"
                export(lesson, files, target, env)
                link_site_files(target)
                found[lesson.number] = target
    except (OSError, SystemExit) as error:
        report.record("tools/lessons.py export", Answer(1, "", f"{error}\n"))
        return {}
    return found


def link_site_files(tree: Path) -> None:
    """Make site.sh, env/, an image and the like visible in a lesson's tree."""
    tracked = {path.split("/")[0] for path in git("ls-files", "-z").stdout.split("\0")}
    for path in Path.cwd().iterdir():
        if path.name not in (*tracked, ".git", "logs"):
            (tree / path.name).symlink_to(path)


def commands_of(page: str) -> list[str]:
    """Return the calls of run.py on a lesson's page that request other resources."""
    blocks = re.findall(r"^```bash[^\n]*\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    calls = [line for line in lines if line.startswith("python run.py")]
    return ["", *(c[14:] for c in calls if SHAPING.search(c) and not NOT_A_JOB.search(c))]


def find_shapes(report: Report, trees: dict[int, Path], python: str) -> list[Shape]:
    """Collect what the jobs of all lessons request, each request once."""
    shapes: dict[tuple[object, ...], Shape] = {}

    def add(number: int, script: Path, by_hand: bool, command: str) -> None:
        lines = [line for line in script.read_text().splitlines() if RESOURCES.match(line)]
        shape = shapes.setdefault((by_hand, *lines), Shape(script, by_hand, [], command))
        if number not in shape.lessons:
            shape.lessons.append(number)

    for number, tree in trees.items():
        if (tree / "run.sh").is_file():
            add(number, tree / "run.sh", True, "sbatch run.sh")
        if python and (tree / "run.py").is_file():
            page = (tree / f"docs/lessons/{number}.md").read_text(errors="replace")
            for words in dict.fromkeys(commands_of(page)):
                command = f"python run.py {words}".strip()
                script, said = dry_run(report, tree, python, words)
                if not said:
                    add(number, script, False, command)
                elif WITHOUT_PACKAGES not in said:
                    shapes[number, words] = Shape(script, False, [number], command, said)
    return list(shapes.values())


def dry_run(report: Report, tree: Path, python: str, words: str) -> tuple[Path, str]:
    """Let run.py of a lesson write the script of a job; return its path, and why it refuses."""
    command = [python, "run.py", *shlex.split(words, comments=True), "--dry-run"]
    done = report.run(command, cwd=tree, timeout=60)
    script = tree / f"preflight-{len(list(tree.glob('preflight-*.sh')))}.sh"
    script.write_text(done.out)
    return script, shortened(done.said or f"exit code {done.code}") if done.code else ""


def refusal(report: Report, shape: Shape) -> str:
    """Return why a job is refused, or ""; it is submitted as its lesson says."""
    if shape.refused:
        return shape.refused
    if shape.by_hand:
        done = report.run(
            ["bash", "-c", BY_HAND], cwd=shape.script.parent, timeout=60, who="sbatch"
        )
    else:
        trial = shape.script.with_suffix(".test-only.sh")
        first, _, rest = shape.script.read_text().partition("\n")
        done = submit_trial(report, trial, f"{first}\n#SBATCH --test-only\n{rest}")
    return sentence(done) if done.code else ""


def check_lesson_jobs(
    report: Report, site: Site, partition: Partition, trees: dict[int, Path], python: str
) -> None:
    """Ask sbatch for every distinct job of the lessons."""
    if not trees:
        cure = "make preflight needs a git clone of your own, on main: git switch main"
        said = report.commands[-1].partition("\n")[2].partition("[exit code")[0]
        found = f"the files of the lessons cannot be exported: {shortened(said)}"
        report.add(ROWS[0], FAIL, found, cure)
        return
    report.show_progress("asking Slurm about the jobs of the lessons")
    shapes = find_shapes(report, trees, python)
    refused: dict[str, list[str]] = {}  # the reason -> the jobs
    for shape in shapes:
        why = refusal(report, shape) or too_long(site, partition, shape)
        if why:
            plural = "s" if len(shape.lessons) > 1 else ""
            job = f"lesson{plural} {', '.join(map(str, shape.lessons))}: {shape.command}"
            refused.setdefault(why, []).append(job)
    if refused:
        report_refused(report, site, partition, refused, len(shapes))
    else:
        found = f"Slurm accepts {len(shapes)} different jobs, of lessons {spans(shapes)}"
        if not python:
            found += "; without a Python for run.py, only those of run.sh were tried"
        report.add(ROWS[0], PASS, found)
    check_gpu_job(report, site, partition, trees, python)


def report_refused(
    report: Report, site: Site, partition: Partition, refused: dict[str, list[str]], total: int
) -> None:
    """Add the row of jobs that Slurm refuses; a reason that all share is shown once."""
    count = sum(map(len, refused.values()))
    only = next(iter(refused)) if len(refused) == 1 else ""
    row = report.row_that_says(only)
    if row:
        found = f"{count} of {total} different jobs are refused for the same reason: see {row}"
        report.add(ROWS[0], SKIPPED, found)
        return
    if only and count == total:
        lines = [f"Slurm refuses all {total} different jobs: {only}"]
    else:
        lines = [f"Slurm refuses {count} of {total} different jobs"]
        for why, jobs in refused.items():
            lines += [f"{why}:", *(f"  {job}" for job in jobs)]
    cures = dict.fromkeys(cure_of(why, site, partition) for why in refused)
    report.add(ROWS[0], FAIL, "\n".join(lines), "\n".join(cures))


def spans(shapes: list[Shape]) -> str:
    numbers = sorted({number for shape in shapes for number in shape.lessons})
    return f"{numbers[0]} to {numbers[-1]}" if numbers else "none"


def too_long(site: Site, partition: Partition, shape: Shape) -> str:
    """Compare with the partition's limit: some sites accept a longer job, which never starts."""
    limit = minutes_of(partition.fields.get("MaxTime", ""))
    given = re.search(r"^#SBATCH --time=(\S+)", shape.script.read_text(), re.MULTILINE)
    text = site.env.get("SBATCH_TIMELIMIT") or (given[1] if given else "")
    asked = minutes_of(text)
    if limit is None or asked is None or asked <= limit:
        return ""
    return f"time limit {text} is above MaxTime={partition.fields['MaxTime']} of {partition.name}"


def minutes_of(text: str) -> int | None:
    """Return the minutes of a time of Slurm, such as 1-00:00:00 or 30; None if it is no time."""
    try:
        return minutes(text.strip('"'))
    except ValueError:
        return None


def cure_of(why: str, site: Site, partition: Partition) -> str:
    if site.get("NO_MEM") and re.search(r"memory|--mem\b", why, re.IGNORECASE):
        return f"for run.sh, also add to site.sh {WITHOUT_MEM}"
    limit = partition.fields.get("MaxTime", "00:30:00")
    for pattern, cure in CURES.items():
        if re.search(pattern, why, re.IGNORECASE):
            return cure.format(limit=limit)
    return "the message of sbatch names the cause; see also sinfo and site.sh"


def check_gpu_job(
    report: Report, site: Site, partition: Partition, trees: dict[int, Path], python: str
) -> None:
    """Ask sbatch for a job with a GPU, with this site's name for GPUs."""
    if not site.get("GRES") and not partition.gres:
        report.add(ROWS[1], SKIPPED, "site.sh sets no GRES, and the partition has no GPUs")
        return
    if site.get("GRES") != without_count(site.get("GRES")):
        report.add(ROWS[1], SKIPPED, "GRES contains a count: see the row settings")
        return
    tree = trees.get(8)
    if not tree or not python:
        report.add(ROWS[1], SKIPPED, "needs a Python for run.py")
        return
    script, said = dry_run(report, tree, python, "--accelerator=gpu")
    if said:
        cure = "GRES is a name, or a name and a type: export GRES=gpu:a100"
        report.add(ROWS[1], FAIL, f"run.py: {said}", cure)
        return
    lines = re.findall(r"^#SBATCH (--gres=\S+)", script.read_text(), re.MULTILINE)
    asked = f"a job with {lines[0]}" if lines else "a job with a GPU"
    why = refusal(report, Shape(script, False))
    if not why:
        report.add(ROWS[1], PASS, f"Slurm accepts {asked}")
        return
    row = report.row_that_says(why)
    if row:
        report.add(ROWS[1], SKIPPED, f"{asked} is refused for the same reason: see {row}")
        return
    there = f"; the partition has {partition.gres or 'no GPUs'}"
    state, about = FAIL, asked
    if not site.get("GRES"):
        state, about = WARN, f"site.sh sets no GRES, and {asked} is refused"
    report.add(ROWS[1], state, f"{about}: {why}{there}", cure_of_gpus(why, site, partition))


def cure_of_gpus(why: str, site: Site, partition: Partition) -> str:
    """Return how to train on the GPUs of the partition, and that nobody has to."""
    if re.search(NOT_GPUS, why, re.IGNORECASE):
        return cure_of(why, site, partition)
    cpus = "to run the course on the CPUs instead, set no GRES in site.sh"
    if not partition.gres:
        return f"use a partition with GPUs: export SBATCH_PARTITION=<name>\n{cpus}"
    if site.get("GRES") == partition.gpu_name:
        return f"the message of sbatch names the cause: ask the help desk\n{cpus}"
    return f"to train on the GPUs, write into site.sh: export GRES={partition.gpu_name}\n{cpus}"
