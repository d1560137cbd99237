"""Find the clones of a class, and read what they show about their learners: see class_view.py.

A clone belongs to somebody else. Nothing in it is executed (git would run programs that its
configuration names), no symbolic link in it is followed, only regular files are read, and of a
large file only the end.
"""

from __future__ import annotations

import errno
import glob
import os
import pwd
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

# not O_NOFOLLOW alone: opening a named pipe would wait for somebody to write to it
FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
TAIL = 64 * 1024  # bytes of a log that are read, from its end
ENTRIES = 2000  # that are listed of a folder
RECENT = 30  # newest runs of a clone that are looked at
EPOCH = re.compile(r"epoch +(\d+)/(\d+)  train loss ")
TEST = re.compile(r"^(?:.* INFO )?test loss \S+ acc \S+", re.MULTILINE)
# file that a lesson adds to the program
MARKS = {
    10: "src/utils/targets.py",
    9: "src/callbacks/interruption.py",
    8: "src/launch/processes.py",
    7: "src/networks/resnet.py",
    6: "src/datasets/cifar10.py",
    5: "src/callbacks/tensorboard.py",
    4: "run.py",
    3: "src/utils/workers.py",
    2: "src/callbacks/done.py",
    1: "src/main.py",
}


@dataclass
class Run:
    """A training: its folder, its logs, or both."""

    folder: str = ""
    log: str = ""
    errors: str = ""
    job: str = ""  # id of its job, "" if unknown
    changed: float = 0.0
    lesson: int | None = None
    done: bool = False


@dataclass
class Clone:
    """What a clone shows; empty where it shows nothing."""

    path: Path
    user: str = ""
    uid: int | None = None  # None if unknown here: Slurm would refuse to answer
    branch: str = ""
    lesson: int | None = None
    runs: list[Run] = field(default_factory=list)  # the newest ones, newest first
    epoch: str = ""  # of the newest run, such as 4/10
    active: float = 0.0  # time of the newest change
    note: str = ""


# --- files of somebody else


@contextmanager
def opened(top: int, path: str) -> Iterator[int]:
    """Open a file or folder below a folder; a symbolic link on the way is an error."""
    here = os.dup(top)
    try:
        for name in path.split("/"):
            inner = os.open(name, FLAGS, dir_fd=here)
            os.close(here)
            here = inner
        yield here
    finally:
        os.close(here)


def entries(top: int, path: str) -> dict[str, os.stat_result]:
    """Return name -> status of what is in a folder; empty if it cannot be listed."""
    found = {}
    with suppress(OSError), opened(top, path) as folder, os.scandir(folder) as listing:
        for entry in islice(listing, ENTRIES):
            with suppress(OSError):  # it has vanished
                found[entry.name] = os.stat(entry.name, dir_fd=folder, follow_symlinks=False)
    return found


def read_end(file: int, size: int) -> str:
    """Return the end of an open file, from the beginning of a line on.

    Raises:
        OSError: if it is not a regular file.
    """
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode):
        raise OSError("not a regular file")
    data = os.pread(file, size, max(0, status.st_size - size))
    if status.st_size > size:
        data = data.partition(b"\n")[2] or data
    # a lost connection to the file system leaves zeros in a log
    return data.replace(b"\0", b"").decode(errors="replace")


def tail(top: int, path: str, size: int = TAIL) -> str:
    """Return the end of a file, or "" if it cannot be read."""
    try:
        with opened(top, path) as file:
            return read_end(file, size)
    except OSError:
        return ""


def exists(top: int, path: str) -> bool:
    try:
        with opened(top, path):
            return True
    except OSError:
        return False


def is_folder(status: os.stat_result) -> bool:
    return stat.S_ISDIR(status.st_mode)


# --- which clones


def find_clones(paths: list[str]) -> list[Path]:
    """Return the clones that paths or patterns name: each folder, or the folders in a single one.

    Raises:
        OSError: if a folder cannot be listed, or if a path or pattern cannot be used.
    """
    found: list[Path] = []
    for path in map(path_of, paths):
        if glob.has_magic(str(path)) and not os.path.lexists(path):
            found += expand(path)
        elif len(paths) > 1 or os.path.lexists(path / ".git"):
            found.append(path)
        elif is_bare(path):
            why = "this is a bare git repository, without a learner's files"
            raise OSError(errno.EINVAL, why, str(path))
        else:
            inside = sorted(one for one in path.iterdir() if not one.name.startswith("."))
            found += [one for one in inside if may_be_clone(one)]
    # two paths may lead to one clone
    return list({os.path.realpath(path): path for path in reversed(found)}.values())[::-1]


def is_bare(path: Path) -> bool:
    """Return whether a folder is a git repository itself, without files around it."""
    return all(os.path.lexists(path / name) for name in ("HEAD", "objects", "refs"))


def path_of(name: str) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError:
        why = "the home folder of this user is unknown"
        raise OSError(errno.EINVAL, why, name) from None


def expand(pattern: Path) -> list[Path]:
    """Return the folders of a pattern, also those that this user may not see.

    glob alone would leave out /home/ada/hpc-starter if this user may not enter /home/ada.
    """
    wild = [k for k, part in enumerate(pattern.parts) if glob.has_magic(part)]
    base, rest = Path(*pattern.parts[: wild[0]]), pattern.parts[wild[-1] + 1 :]
    try:
        folders = sorted(base.glob("/".join(pattern.parts[wild[0] : wild[-1] + 1])))
    except (ValueError, NotImplementedError):
        why = "this pattern cannot be used"
        raise OSError(errno.EINVAL, why, str(pattern)) from None
    shown = [path.joinpath(*rest) for path in folders if not path.name.startswith(".")]
    return [path for path in shown if may_be_clone(path)]


def may_be_clone(path: Path) -> bool:
    try:
        return is_folder(path.stat())
    except PermissionError:
        return True
    except OSError:
        return False


# --- what a clone shows


def read_clone(path: Path) -> Clone:
    clone = Clone(path)
    try:
        name_owner(clone)
        top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        clone.note = f"cannot be read: {error.strerror}"
        return clone
    try:
        clone.branch, clone.note = branch_of(top)
        clone.lesson = lesson_of_branch(top, clone.branch)
        clone.runs = find_runs(top)
        clone.epoch = epoch_of(top, clone.runs)
        clone.active = max([changed(top), *(run.changed for run in clone.runs)])
        if stat.S_ISLNK(entries(top, ".").get("logs", os.fstat(top)).st_mode):
            clone.note = clone.note or "logs is a symbolic link, which is not followed"
    finally:
        os.close(top)
    return clone


def name_owner(clone: Clone) -> None:
    """Name the owner of a clone, or of the folder around it if that is all that one may see."""
    try:
        clone.uid = clone.path.stat().st_uid
    except PermissionError:
        clone.uid = clone.path.absolute().parent.stat().st_uid
    try:
        clone.user = pwd.getpwuid(clone.uid).pw_name
    except KeyError:
        clone.user, clone.uid = str(clone.uid), None


def branch_of(top: int) -> tuple[str, str]:
    """Return the branch that is checked out, and what is wrong with it."""
    try:
        with opened(top, ".git") as git:
            status = os.fstat(git)
            pointer = "" if is_folder(status) else read_end(git, 4096)
        text = head_of_worktree(pointer, status.st_uid) if pointer else head_of(top)
    except FileNotFoundError:
        return "", "no git repository" if not exists(top, ".git") else "no branch: .git has no HEAD"
    except OSError as error:
        why = "a symbolic link is not followed" if error.errno == errno.ELOOP else ""
        return "", f"no branch: .git cannot be read ({why or error.strerror or error})"
    if match := re.fullmatch(r"ref: refs/heads/(\S+)\s*", text):
        return match[1], ""
    if match := re.fullmatch(r"([0-9a-f]{40,64})\s*", text):
        return f"detached at {match[1][:7]}", ""
    return "", "no branch: .git/HEAD is damaged"


def head_of(top: int) -> str:
    with opened(top, ".git/HEAD") as file:
        return read_end(file, 4096)


def head_of_worktree(pointer: str, owner: int) -> str:
    """Return the HEAD of a worktree, whose .git is a file with the path of another folder.

    Raises:
        OSError: if that folder is not one that git has made for the owner.
    """
    match = re.fullmatch(r"gitdir: (/.*/\.git/worktrees/[^/\n]+)\s*", pointer)
    if not match:
        raise OSError("it is neither a folder nor a worktree")
    file = os.open(Path(match[1], "HEAD"), FLAGS)
    try:
        if os.fstat(file).st_uid != owner:
            raise OSError("the repository of this worktree has another owner")
        return read_end(file, 4096)
    finally:
        os.close(file)


def lesson_of_branch(top: int, branch: str) -> int | None:
    """Return the lesson by the name of the branch or, if that has no number, by the files."""
    number = number_of(branch)
    return number or (None if branch in ("main", "master") else lesson_of_files(top, ""))


def number_of(branch: str) -> int | None:
    """Return the lesson in the name of a branch such as 4-...; start_lesson.py adds my-lesson-4."""
    match = re.match(r"(?:my-lesson-|my-)?([0-9]{1,3})(?:-|$)", branch)
    return int(match[1]) if match else None


def lesson_of_files(top: int, folder: str) -> int | None:
    return next((number for number, name in MARKS.items() if exists(top, folder + name)), None)


def changed(top: int) -> float:
    """Return the time of the newest change of the program, or of a switch or commit."""
    found = [entries(top, path) for path in (".", "src", "configs", ".git/logs")]
    times = [one.st_mtime for listing in found for one in listing.values()]
    head = entries(top, ".git").get("HEAD")
    return max([*times, *([head.st_mtime] if head else [])], default=0.0)


# --- its runs


def find_runs(top: int) -> list[Run]:
    """Return the newest runs, newest first."""
    runs = sorted(
        [*runs_of_sbatch(top), *runs_of_run_py(top)], key=lambda run: run.changed, reverse=True
    )[:RECENT]
    for run in runs:
        inspect(top, run)
    return sorted(runs, key=lambda run: run.changed, reverse=True)


def runs_of_sbatch(top: int) -> list[Run]:
    """Return the runs of lessons 1 to 3: slurm.<job id>.out and lightning_logs/version_<job id>."""
    runs: dict[str, Run] = {}
    for name, status in entries(top, ".").items():
        if match := re.fullmatch(r"slurm\.(\d+)\.out", name):
            # the pages call a log without a job slurm.0.out
            job = match[1] if match[1].strip("0") else ""
            runs[match[1]] = Run(log=name, job=job, changed=status.st_mtime)
    for name, status in entries(top, "lightning_logs").items():
        if match := re.fullmatch(r"version_(\d+)", name):
            run = runs.setdefault(match[1], Run(job=match[1]))
            run.folder = f"lightning_logs/{name}"
            run.changed = max(run.changed, status.st_mtime)
    return list(runs.values())


def runs_of_run_py(top: int) -> list[Run]:
    """Return the runs of lessons 4 and later: logs/<experiment>/version_<number>."""
    runs: dict[str, Run] = {}
    for experiment, status in entries(top, "logs").items():
        if not is_folder(status):
            continue
        base = f"logs/{experiment}"
        for name, inner in entries(top, base).items():
            if name.startswith("version_") and is_folder(inner):
                runs[f"{base}/{name}"] = Run(f"{base}/{name}", changed=inner.st_mtime)
        for kind, attribute in (("out", "log"), ("err", "errors")):
            logs = f"{base}/slurm_{kind}_logs"
            for name, inner in sorted(entries(top, logs).items()):
                match = re.fullmatch(rf"(version_\d+)_(\d+)\.{kind}", name)
                if match and f"{base}/{match[1]}" in runs:
                    run = runs[f"{base}/{match[1]}"]
                    setattr(run, attribute, f"{logs}/{name}")
                    run.job, run.changed = match[2], max(run.changed, inner.st_mtime)
    return list(runs.values())


def inspect(top: int, run: Run) -> None:
    """Fill in what the folder of a run and its log show."""
    files = entries(top, run.folder) if run.folder else {}
    run.changed = max([run.changed, *(status.st_mtime for status in files.values())])
    run.done = "DONE.json" in files
    if "job.err" in files:  # from lesson 9 on
        run.log, run.errors = f"{run.folder}/job.out", f"{run.folder}/job.err"
        jobs = re.findall(r'"job": "(\d+)"', tail(top, f"{run.folder}/attempts.jsonl"))
        run.job = jobs[-1] if jobs else ""
    if not run.folder:
        run.lesson, run.done = 1, bool(TEST.search(tail(top, run.log, 4096)))
    elif run.folder.startswith("lightning_logs/"):
        settings = tail(top, f"{run.folder}/hparams.yaml", 4096)
        run.lesson = (3 if "num_workers" in settings else 2) if settings else None
    else:
        run.lesson = lesson_of_files(top, f"{run.folder}/code/")


def epoch_of(top: int, runs: list[Run]) -> str:
    """Return the last epoch of the newest run, such as 4/10."""
    found = EPOCH.findall(tail(top, runs[0].log)) if runs and runs[0].log else []
    return "/".join(found[-1]) if found else ""


# --- why a job failed


def error_of(clone: Clone, job: str, start: float) -> str:
    """Return the first line of the error of a job, or "" if its log does not tell.

    From lesson 9 on, a log has no job id in its name, and a job that ends early leaves none
    elsewhere: then it is the newest log that has changed since the start of the job.
    """
    named = [run for run in clone.runs if run.job == job]
    newer = [run for run in clone.runs if run.changed >= start and run.errors.endswith("/job.err")]
    for run in [*named, *newer][:1]:
        try:
            top = os.open(clone.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return ""
        try:
            texts = (tail(top, path) for path in (run.errors, run.log) if path)
            return next(filter(None, map(first_error, texts)), "")
        finally:
            os.close(top)
    return ""


# what a training prints while all is well
PROGRESS = re.compile(
    r"(?:[\d-]+ [\d:,.]+ )?INFO\b|(?:data|device|processes|logs): |epoch +\d+/\d+ |test loss "
)
REQUEUE = "DUE TO JOB REQUEUE"  # ends an attempt, but not the job
# how much a line tells: Slurm's reason, that others have failed, an exit code, nothing
TELLS = [
    re.compile(rf"(?!.*{REQUEUE})(?:slurmstepd|srun).*(?:DUE TO |memory|oom|Node failure)"),
    re.compile(r"(?:process \d+: )?(?:another process ended|ended by SIG|A process was ended by)"),
    re.compile(rf"(?!.*{REQUEUE})(?:slurmstepd|srun: error: )"),
    re.compile(
        # indented lines: of a traceback, only the last line is an error
        r"\s|Traceback |Exception in thread|During handling of|The above exception"
        r"|slurmstepd|srun: |\S+:\d+: \w*Warning: "
    ),
]
CONSEQUENCE, WORTHLESS = len(TELLS) - 1, len(TELLS)


def first_error(text: str) -> str:
    """Return the line of a log that says first why its job failed, or ""."""
    lines = [line for line in re.split(r"[\r\n]+", text) if line.strip()]
    ends = [k for k, line in enumerate(lines) if PROGRESS.match(line) or REQUEUE in line]
    after = lines[ends[-1] + 1 :] if ends else lines
    for part in (after, lines):  # several processes may write at once
        numbered = enumerate(line for line in part if not PROGRESS.match(line))
        found = min(map(telling, numbered), default=(WORTHLESS, 0, ""))
        if found[0] < CONSEQUENCE:
            break
    return found[2].strip() if found[0] < WORTHLESS else ""


def telling(numbered: tuple[int, str]) -> tuple[int, int, str]:
    """Return a key by which the most telling line comes first, and then the first one."""
    number, line = numbered
    matching = [k for k, pattern in enumerate(TELLS, 1) if pattern.match(line)]
    return (matching[0] if matching else 0), number, line
