"""The rows of make preflight: a table in the terminal, and a file for the help desk."""

from __future__ import annotations

import os
import re
import secrets
import selectors
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

PASS, FAIL, WARN, SKIPPED = "PASS", "FAIL", "WARN", "SKIPPED"
NAME = "preflight-report.txt"
WIDTH = 100  # columns of the table
TEXT = 29  # column where the text of a row begins
LONGEST = 300  # characters of a reply in the table; the file has the whole one
TIMEOUT = 30.0  # seconds for one command
MOST = 4 << 20  # bytes that are kept of what a command prints
KEPT = 20_000  # characters of an answer in the file
TO_CANCEL = 10.0  # seconds for scancel; Ctrl-C is ignored meanwhile
# what scancel says about a job that has ended
ENDED = "already completing|already completed|Invalid job id"
# variables that matter here; no others are written to the file
SHOWN = re.compile(
    "(SBATCH|SLURM)_.*|PYTHON|VENV|DATA_DIR|TORCH_HOME|GRES|NO_MEM|LOADEDMODULES|TMPDIR"
)
SECRET = r"\w*(?:TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY|JWT)\w*"
HIDDEN = "<hidden>"


@dataclass
class Row:
    """What was checked, how it ended, what was found, and what to do about it."""

    name: str
    state: str
    found: str
    cure: str = ""


@dataclass
class Answer:
    """What a command printed; code 127 if it is missing, 124 if it did not end in time."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """Return both outputs as one line."""
        return " ".join(f"{self.err} {self.out}".split())


@dataclass
class Report:
    """Prints each row at once, and keeps everything for the file."""

    folder: Path
    rows: list[Row] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    progress: str = ""
    interrupted: bool = False
    had_logs: bool = True  # whether there was a folder logs/ before
    cancelled: bool = False  # by a scancel that has answered
    left: dict[str, str] = field(
        default_factory=dict
    )  # the command that cancels it -> what is left
    keep: bool = False  # write the file after each row, so that it is whole at any time

    def add(self, name: str, state: str, found: str, cure: str = "") -> None:
        row = Row(name, state, printable(found), printable(cure))
        self.rows.append(row)
        self.show_progress("")
        print("\n".join(lines_of(row)), flush=True)
        if self.keep:
            self.write()

    def skip(self, names: list[str], why: str) -> None:
        """Skip those of these rows that are not there yet; the table shows them together."""
        there = {row.name for row in self.rows}
        rows = [Row(name, SKIPPED, printable(why)) for name in names if name not in there]
        if not rows:
            return
        self.rows += rows
        self.show_progress("")
        print("\n".join(table(rows)), flush=True)

    def passed(self, name: str) -> bool:
        return any(row.name == name and row.state in (PASS, WARN) for row in self.rows)

    def row_that_says(self, why: str) -> str:
        """Return the failed row that already shows a reason, or ""."""
        failed = [row for row in self.rows if row.state == FAIL]
        return next((row.name for row in failed if why and printable(why) in row.found), "")

    def show_progress(self, text: str) -> None:
        """Show what is waited for: in a terminal, in a line that the next one replaces.

        Elsewhere, only what takes long is worth a line: waiting for a job.
        """
        text = printable(text).replace("\n", " ")
        if sys.stdout.isatty():
            print("\r\033[K" + text[: WIDTH - 1], end="", flush=True)
        elif text.startswith("job ") and text.partition(",")[0] != self.progress.partition(",")[0]:
            print(f"... {text}", flush=True)
        self.progress = text

    def run(
        self,
        command: list[str],
        timeout: float = TIMEOUT,
        cwd: Path | None = None,
        who: str = "",
    ) -> Answer:
        """Run a command with the environment of site.sh, and keep what it printed.

        A message about its time names who, if that is not the first word of the command.
        """
        answer = answer_of(command, timeout, self.env, cwd, who)
        self.record(shlex.join(command), answer)
        return answer

    def cancel(self, job: str, words: list[str]) -> None:
        """Cancel a job; what is left is noted even if this is interrupted."""
        command = ["scancel", *words]
        self.show_progress(f"cancelling {job}")
        self.left[shlex.join(command)] = f"{job} is perhaps not cancelled"
        done = self.run(command, timeout=TO_CANCEL)
        if done.code and not re.search(ENDED, done.said, re.IGNORECASE):
            why = shortened(done.said) or f"scancel: {ending(done.code)}"
            self.left[shlex.join(command)] = f"{job} could not be cancelled ({why})"
        else:
            del self.left[shlex.join(command)]
            self.cancelled = True
        self.show_progress("")

    def remedies(self) -> list[str]:
        """Return a sentence for each job that may be left in the queue."""
        return [printable(f"{what}: do it yourself with {how}") for how, what in self.left.items()]

    def interruption(self) -> str:
        if self.left:
            return "interrupted; not all jobs of this check are cancelled"
        if self.cancelled:
            return "interrupted; the jobs of this check are cancelled"
        return "interrupted; this check had submitted no job"

    def record(self, what: str, answer: Answer) -> None:
        # far more than is shown, since secrets are hidden later, and one must not be cut in two
        said = f"{answer.out}{answer.err}"[: 10 * KEPT]
        text = f"$ {what}\n{said}".rstrip("\n")
        self.commands.append(f"{text}\n[exit code {answer.code}]")

    def verdict(self) -> str:
        counts = dict.fromkeys((PASS, FAIL, WARN, SKIPPED), 0)
        for row in self.rows:
            counts[row.state] += 1
        total = len(self.rows) - counts[SKIPPED]
        more = [f"{counts[state]} {word}" for state, word in OTHERS.items() if counts[state]]
        tail = f" ({', '.join(more)})" if more else ""
        if self.interrupted:
            return f"INTERRUPTED: {counts[FAIL]} of {total} checks failed{tail}"
        if counts[FAIL]:
            return f"FAIL: {counts[FAIL]} of {total} checks{tail}"
        return f"PASS: {counts[PASS] + counts[WARN]} of {total} checks{tail}"

    def text(self) -> str:
        """Return the file for the help desk."""
        head = [
            f"make preflight, {time.strftime('%Y-%m-%d %H:%M:%S %z')}",
            f"host {socket.gethostname()}, user {user()}, folder {self.folder}",
            f"Python {sys.version.split()[0]}, {' '.join(os.uname()[::2])}",
        ]
        values = [f"{name}={value}" for name, value in sorted(self.env.items()) if shown(name)]
        parts = [
            head,
            [*table(self.rows), *self.remedies(), self.verdict()],
            ["Environment:", *values],
            ["Commands:"],
        ]
        blocks = ["\n".join(part) for part in parts]
        return "\n\n".join([*(printable(b) for b in blocks), *self.hidden_commands(), ""])

    def hidden_commands(self) -> list[str]:
        values = [v for n, v in self.env.items() if re.fullmatch(SECRET, n, re.I) and len(v) > 5]
        found = []
        for command in self.commands:
            for value in values:
                command = command.replace(value, HIDDEN)
            if len(command) > KEPT:
                command = f"{command[:KEPT]}\n[and {len(command) - KEPT} characters or more]"
            found.append(printable(command.expandtabs()))
        return found

    def write(self) -> Path | None:
        """Write the file, whole at any time; return its path, or None if it cannot be written."""
        names = (NAME, f"preflight-report-{user()}.txt")
        places = [*(self.folder / name for name in names), Path.home() / NAME]
        for place in places:
            part = place.with_name(f".{place.name}.{secrets.token_hex(4)}")
            try:
                if place.exists() and place.stat().st_uid != os.getuid():
                    continue  # that of another person
                part.write_text(self.text(), encoding="utf-8", errors="replace")
                part.replace(place)
                return place
            except OSError:
                with suppress(OSError):
                    part.unlink()
        return None


OTHERS = {WARN: "with a warning", SKIPPED: "skipped"}


def answer_of(
    command: list[str], timeout: float, env: Mapping[str, str], cwd: Path | None, who: str = ""
) -> Answer:
    """Run a command; if it does not end in time, end it and all that it has started."""
    try:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        return Answer(127, "", f"{command[0]}: {error.strerror}\n")
    ended, out, err = False, bytearray(), bytearray()
    with process:
        try:
            ended = read(process, out, err, timeout)
        finally:
            if not ended:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
    if not ended:
        said = err.decode(errors="replace")
        return Answer(124, "", f"{said}{who or command[0]} did not answer within {timeout:.0f} s\n")
    return Answer(process.returncode, os.fsdecode(bytes(out)), os.fsdecode(bytes(err)))


def read(process: subprocess.Popen[bytes], out: bytearray, err: bytearray, timeout: float) -> bool:
    """Collect both outputs, but no more than MOST bytes; return whether it ended in time."""
    deadline = time.monotonic() + timeout
    with selectors.DefaultSelector() as selector:
        for pipe, kept in ((process.stdout, out), (process.stderr, err)):
            if pipe:
                selector.register(pipe, selectors.EVENT_READ, kept)
        while selector.get_map():
            if time.monotonic() > deadline:
                return False
            for key, _ in selector.select(max(0.0, deadline - time.monotonic())):
                data = os.read(key.fd, 1 << 16)
                if not data:
                    selector.unregister(key.fileobj)
                key.data.extend(data[: MOST - len(key.data)])
    with suppress(subprocess.TimeoutExpired):
        process.wait(max(0.0, deadline - time.monotonic()))
    return process.returncode is not None


def ending(code: int) -> str:
    """Return how a process has ended, such as signal SIGSEGV."""
    if code in {-number for number in signal.Signals}:
        return f"signal {signal.Signals(-code).name}"
    return f"exit code {code}"


def shortened(text: str) -> str:
    """Return text on one line, and at most the beginning of a very long one."""
    return textwrap.shorten(text[: 10 * LONGEST], LONGEST, placeholder=" ...")


def user() -> str:
    return os.environ.get("USER") or os.environ.get("LOGNAME") or str(os.getuid())


def shown(name: str) -> bool:
    return bool(SHOWN.fullmatch(name)) and not re.fullmatch(SECRET, name, re.I)


def without_secrets(text: str) -> str:
    """Hide passwords and tokens in assignments and addresses."""
    name = SECRET.removeprefix(r"\w*")  # at the beginning of a long word, it would take minutes
    text = re.sub(rf"({name}=)\S+", rf"\1{HIDDEN}", text, flags=re.I)
    return re.sub(r"(://[^/\s:@]+:)[^/\s@]+@", rf"\1{HIDDEN}@", text)


def printable(text: str) -> str:
    """Return text without what could change a terminal; lines stay."""
    lines = without_secrets(text).split("\n")
    return "\n".join(line if line.isprintable() else cleaned(line) for line in lines)


def cleaned(line: str) -> str:
    return "".join(c if c.isprintable() else " " for c in line)


def table(rows: list[Row]) -> list[str]:
    """Return the lines of these rows; those that are skipped for one reason share theirs."""
    lines = []
    for (state, _), group in groupby(
        rows, lambda row: (row.state, row.state == SKIPPED and row.found)
    ):
        members = list(group)
        if state == SKIPPED and len(members) > 1:
            names = ", ".join(row.name for row in members)
            members = [Row(f"{len(members)} rows", SKIPPED, f"{members[0].found}: {names}")]
        lines += [line for row in members for line in lines_of(row)]
    return lines


def lines_of(row: Row) -> list[str]:
    """Return the lines of a row; long text goes on below its beginning."""
    width = min(WIDTH, max(shutil.get_terminal_size((WIDTH, 0)).columns, 60)) - TEXT
    parts = row.found.split("\n")
    if row.cure:
        parts += [f"-> {line}" for line in row.cure.split("\n")]
    lines = [piece for part in parts for piece in wrapped(part, width)]
    head = f"{row.state:<8}{row.name:<{TEXT - 8}}"
    return [f"{head}{lines[0]}", *(" " * TEXT + line for line in lines[1:])]


def wrapped(text: str, width: int) -> list[str]:
    indent = "   " if text.startswith("-> ") else " " * (len(text) - len(text.lstrip()))
    # a command, a line for site.sh or a path stays whole, so that it can be copied
    for whole in re.findall(r"\bexport \w+=|bash -c '[^']*'", text):
        text = text.replace(whole, whole.replace(" ", "\N{NO-BREAK SPACE}"))
    lines = textwrap.wrap(
        text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines] or [""]
