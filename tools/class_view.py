"""Show an instructor who is at which lesson and whose last job failed: make class, or

    python3 tools/class_view.py /shared/class          one clone per learner in this folder
    python3 tools/class_view.py '/home/*/hpc-starter'  or where a pattern says

In a terminal, the view is renewed every ten seconds until Ctrl-C. It shows only what you may read,
and asks Slurm once for all learners. Only the standard library is used.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import secrets
import select
import shutil
import signal
import subprocess
import sys
import time
import unicodedata
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from class_clones import Clone, error_of, find_clones, number_of, read_clone

SECONDS = 10  # between two views
DAYS = 7  # of Slurm's accounting
TIMEOUT = 5.0  # seconds for an answer of Slurm
MOST = 16_000_000  # bytes of an answer: about 100,000 jobs
SACCT_FIELDS = "JobID,State,Submit,Start,WorkDir"
SQUEUE_FIELDS = ("%i", "%T", "%V", "%S", "%Z")
FAILED = {
    *("FAILED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "BOOT_FAIL", "DEADLINE", "PREEMPTED"),
    "LAUNCH_FAILED",
}
# what the logs alone say about a run
DONE, NOT_DONE = "done", "not done"
# of a terminal: colours and the like, titles and links, everything else
ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|\x1b[\]PX^_].*?(?:\x07|\x1b\\|$)|\x1b.?", re.DOTALL
)


@dataclass
class Job:
    id: str
    state: str
    submit: str
    start: str
    folder: str


@dataclass
class Row:
    clone: Clone
    job: str = ""
    state: str = ""
    error: str = ""

    @property
    def lesson(self) -> str:
        """Return the branch, or the lesson to which the files belong."""
        clone = self.clone
        if clone.lesson == number_of(clone.branch):
            return clone.branch
        return f"{clone.lesson}: {clone.branch}".rstrip(": ")

    @property
    def runs(self) -> tuple[int, int]:
        """Return how many runs of the current lesson are done, and how many there are."""
        ours = [run for run in self.clone.runs if run.lesson == self.clone.lesson]
        return sum(run.done for run in ours), len(ours)


# --- Slurm


def ask(command: list[str]) -> str | None:
    """Return what a command of Slurm prints, or None if it is missing, fails, hangs or floods."""
    own = ("SACCT_", "SQUEUE_", "SLURM_TIME_FORMAT")
    env = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=env,
            start_new_session=True,
        )
    except OSError:
        return None
    deadline = time.monotonic() + TIMEOUT
    with process:
        try:
            shown = read_answer(process, deadline)
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return None
        finally:
            if process.poll() is None:
                with suppress(ProcessLookupError):  # a wrapper may have started other processes
                    os.killpg(process.pid, signal.SIGKILL)
    return None if process.returncode else shown.decode(errors="replace")


def read_answer(process: subprocess.Popen[bytes], deadline: float) -> bytes:
    """Return what a process prints.

    Raises:
        subprocess.TimeoutExpired: if it does not end in time, or prints more than can be kept.
    """
    pipe, shown = process.stdout, bytearray()
    while pipe and len(shown) <= MOST:
        left = max(0.0, deadline - time.monotonic())
        if not left or not select.select([pipe], [], [], left)[0]:
            break
        part = os.read(pipe.fileno(), 65536)
        if not part:
            return bytes(shown)
        shown += part
    raise subprocess.TimeoutExpired(process.args, TIMEOUT)


def jobs_of(uids: Iterable[int]) -> tuple[list[Job], str]:
    """Return the jobs of these users, and what is wrong with Slurm."""
    users = ",".join(map(str, sorted(set(uids))))
    # a folder's name may contain anything but this
    mark = f"|{secrets.token_hex(8)}|"
    sacct = ["sacct", "--noheader", "--allocations", "--parsable2", f"--delimiter={mark}"]
    sacct += [f"--starttime=now-{DAYS}days", f"--user={users}", f"--format={SACCT_FIELDS}"]
    shown, note = ask(sacct), ""
    if shown is None:
        squeue = ["squeue", "--noheader", "--states=all", f"--user={users}"]
        shown = ask([*squeue, f"--format={mark.join(SQUEUE_FIELDS)}"])
        note = "sacct does not answer: only squeue's jobs are shown, and what the logs say"
        if shown is None:
            note = "neither sacct nor squeue answers: the states are those that the logs show"
    rows = (line.split(mark) for line in (shown or "").split("\n"))
    return [Job(*row) for row in rows if len(row) == len(SQUEUE_FIELDS)], note


def newest_jobs(jobs: list[Job], clones: list[Clone]) -> dict[Path, Job]:
    """Return the path of a clone -> its newest job, which began in the clone or a folder in it."""
    places = {Path(os.path.realpath(clone.path)): clone.path for clone in clones}
    found: dict[Path, Job] = {}
    for job in sorted(jobs, key=lambda job: (job.submit, len(job.id), job.id)):
        folder = Path(job.folder)
        around = next((place for place in (folder, *folder.parents) if place in places), None)
        if around:
            found[places[around]] = job
    return found


def seconds_of(text: str) -> float:
    """Return a time of Slurm, such as 2026-11-26T09:00:00, in seconds; 0 if it is unknown."""
    try:
        return time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%S"))
    except (ValueError, OverflowError):
        return 0.0


# --- the class


def read_class(paths: list[str]) -> tuple[list[Row], str]:
    """Return a row per clone, and what is wrong with Slurm."""
    with ThreadPoolExecutor(8) as pool:  # on a network file system, each read takes a while
        clones = list(pool.map(read_clone, find_clones(paths)))
    uids = [clone.uid for clone in clones if clone.uid is not None]
    jobs, note = jobs_of(uids) if uids else ([], "")
    newest = newest_jobs(jobs, clones)
    return [describe(clone, newest.get(clone.path)) for clone in clones], note


def describe(clone: Clone, job: Job | None) -> Row:
    row = Row(clone)
    if job:
        row.job, row.state = job.id, job.state.split(" ")[0]
        if row.state in FAILED:
            row.error = error_of(clone, job.id, seconds_of(job.start))
            row.error = row.error or "its log does not say why, or is not in logs/"
    elif clone.runs:
        run = clone.runs[0]
        row.job, row.state = run.job, DONE if run.done else NOT_DONE
        if not run.done and run.log:
            row.error = error_of(clone, run.job, run.changed)
    return row


# --- text


def clean(text: str) -> str:
    """Return text without what could change a terminal: escape sequences, control characters."""
    shown = unicodedata.normalize("NFC", " ".join(ESCAPES.sub("", text).split()))
    kinds = ("C", "M", "Zl", "Zp")  # marks could pile up over other lines
    return "".join(one for one in shown if not unicodedata.category(one).startswith(kinds))


def cells(character: str) -> int:
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(text: str, width: int) -> str:
    """Return text that fits into a number of columns of a terminal."""
    if sum(map(cells, text)) <= width:
        return text
    fitting, room = "", width - 3
    for character in text:
        room -= cells(character)
        if room < 0:
            break
        fitting += character
    return f"{fitting}..."[: max(width, 0)]


def pad(text: str, width: int) -> str:
    return text + " " * (width - sum(map(cells, text)))


def ago(moment: float) -> str:
    """Return how long ago something was."""
    seconds = max(0, int(time.time() - moment))
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size or (unit != "days" and seconds >= size):
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def summary(rows: list[Row]) -> str:
    lessons = Counter(row.clone.lesson for row in rows if row.clone.lesson is not None)
    states = Counter(clean(row.state) for row in rows if row.state)
    parts = [f"{len(rows)} clone{'s' * (len(rows) != 1)}"]
    parts += [f"lesson {number}: {count}" for number, count in sorted(lessons.items())]
    parts += [f"{state} {count}" for state, count in sorted(states.items())]
    return f"{time.strftime('%H:%M:%S')}  {', '.join(parts)}"


def in_columns(lines: list[list[str]]) -> list[str]:
    widths = [max(sum(map(cells, cell)) for cell in column) for column in zip(*lines)]
    return ["  ".join(map(pad, line, widths)).rstrip() for line in lines]


def table(rows: list[Row], note: str, width: int) -> list[str]:
    """Return the lines of the view, each at most this wide."""
    paths = [row.clone.path.absolute() for row in rows]
    base = Path(os.path.commonpath([path.parent for path in paths]))
    head = ["USER", "CLONE", "LESSON", "DONE", "EPOCH", "JOBID", "STATE", "ACTIVE"]
    lines = [head]
    for row, path in zip(rows, paths):
        done, count = row.runs
        active = ago(row.clone.active) if row.clone.active else ""
        place = str(path.relative_to(base))
        cell = [row.clone.user, place, row.lesson, f"{done}/{count}" if count else ""]
        lines.append([*cell, row.clone.epoch, row.job, row.state, active])
    if len({line[0] for line in lines[1:]}) == len(rows):  # the user alone tells the clones apart
        lines = [[line[0], *line[2:]] for line in lines]
    for most in (30, 20, 14, 10):
        shown = in_columns([[cut(clean(cell), most) for cell in line] for line in lines])
        if max(sum(map(cells, line)) for line in shown) <= width:
            break
    text = [summary(rows), *([note] if note else []), "", shown[0]]
    for row, line in zip(rows, shown[1:]):
        text.append(line)
        text += [f"    {clean(more)}" for more in (row.clone.note, row.error) if more]
    return [cut(line, width) for line in text]


def write_csv(rows: list[Row]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    names = "user clone branch lesson done runs epoch active job_id state error note"
    writer.writerow(names.split())
    for row in rows:
        clone, (done, count) = row.clone, row.runs
        form = "%Y-%m-%dT%H:%M:%S"
        active = ""
        with suppress(OverflowError, ValueError, OSError):  # a learner may set any time
            active = time.strftime(form, time.localtime(clone.active)) if clone.active else ""
        values = [clone.user, clone.path.absolute(), clone.branch, clone.lesson or "", done, count]
        values += [clone.epoch, active, row.job, row.state, row.error, clone.note]
        writer.writerow([harmless(clean(str(value))) for value in values])


def harmless(text: str) -> str:
    """Return text that a spreadsheet does not take for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


# --- the program


def look(paths: list[str]) -> tuple[list[Row], str]:
    try:
        rows, note = read_class(paths)
    except OSError as error:
        remedy = "name the folder with the clones, or a pattern such as '/home/*/hpc-starter'"
        name = clean(str(error.filename))
        raise SystemExit(f"{name}: {error.strerror}; {remedy}") from None
    if not rows:
        raise SystemExit(
            f"{clean(' '.join(paths))}: there is no folder; name the one with the clones"
        )
    return rows, note


def watch(paths: list[str]) -> None:
    """Show the view again and again, as much of it as the terminal has lines for."""
    while True:
        rows, note = look(paths)
        width, height = shutil.get_terminal_size()
        lines = table(rows, note, width)
        if len(lines) >= height:
            kept = max(height - 2, 1)
            more = f"{len(lines) - kept} more lines: use a taller terminal, or --once"
            lines = [*lines[:kept], cut(more, width)]
        # to the upper left corner, and clear from there on
        print("\033[H\033[2J" + "\n".join(lines), flush=True)
        time.sleep(SECONDS)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    around = str(Path(__file__).resolve().parents[2])
    parser.add_argument(
        "paths",
        nargs="*",
        default=[around],
        metavar="PATH",
        help="folder that contains the clones, or the clones themselves, also as a pattern in"
        " quotes (default: the folder around this clone)",
    )
    parser.add_argument("--once", action="store_true", help="print the view once")
    parser.add_argument("--csv", action="store_true", help="print it once, as CSV")
    return parser.parse_args()


def show(args: argparse.Namespace) -> None:
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    if args.csv:
        rows, note = look(args.paths)
        write_csv(rows)
        if note:  # not a row of the table
            print(note, file=sys.stderr)
    elif args.once or not sys.stdout.isatty():
        rows, note = look(args.paths)
        width = shutil.get_terminal_size((120, 0)).columns
        print("\n".join(table(rows, note, width)))
    else:
        watch(args.paths)
    sys.stdout.flush()


def main() -> None:
    args = parse_args()
    try:
        show(args)
    except KeyboardInterrupt:
        print()
    except BrokenPipeError:
        # the reader of the output has ended, as head does; Python would try to write again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
