#!/usr/bin/env python3
"""Follow the pages as a reader would: run their commands, and compare what they print.

    python3 tools/run_docs.py              # README, preparation, practice cluster, all lessons
    python3 tools/run_docs.py --only 3     # lesson 3, after the setup that it needs
    python3 tools/run_docs.py --capture    # write the output that was found into the pages

Words after "bash" in the first line of a block say how it is run:

    no-run="reason"   only shown; the reason is for whoever edits the page
    setup             later pages need it: --only runs it, too
    at-once           do not wait for the jobs of earlier blocks
    at-end            run after the last page
    laptop            run in a shell that has no Slurm
    limit=600         seconds until the block is stopped; 120 by default
    wait=60           run again until it prints what the page shows, for this many seconds
    exit=1            the exit code that is expected; 0 by default
    state=FAILED      the state in which the jobs of this block end; COMPLETED by default

An "output" block belongs to the bash block before it. In it, <words> stand for anything within a
line, and ... alone stands for any lines. Numbers with a decimal point may differ a little, since
CPUs round differently; with the word "shape", all numbers may differ. In a command, <job id> stands
for what the last output had in its place.

Only the standard library is used. No runner was found that keeps one shell over several Markdown
files and waits for the jobs of a cluster.
"""

import argparse
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BEFORE = ["README.md", "docs/preparation.md", "docs/practice-cluster.md"]
FENCE = re.compile(r"^```(\w+)(.*)\n((?:.*\n)*?)^```$", re.MULTILINE)
WORDS = {"no-run", "setup", "at-once", "at-end", "laptop", "limit", "wait", "exit", "state"}
JOB = re.compile(r"^(?:Submitted batch job|job) (\d+)(?: ->|$| on cluster)", re.MULTILINE)
RUNNING = {
    *("PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "REQUEUED", "SUSPENDED"),
    "SIGNALING",  # Slurm is sending the signal of --signal
}
# numbers with a decimal point may differ by this share or, if it is larger, by this much
TOLERANCE, LEAST = 0.05, 0.02
SLURM = ("sbatch", "srun", "salloc", "squeue", "sacct", "sinfo", "scontrol", "scancel", "sattach")


Words = dict[str, str | bool]


class DocsError(Exception):
    """What a page says differs from what happens; its text says where and how."""


@dataclass
class Block:
    """A command of a page, and the output that the page shows for it."""

    page: Path
    line: int
    text: str
    words: Words = field(default_factory=dict)
    output: "Block | None" = None

    @property
    def where(self) -> str:
        page = self.page.relative_to(ROOT) if self.page.is_relative_to(ROOT) else self.page
        return f"{page}:{self.line}"


def read_words(text: str, where: str, known: set[str]) -> Words:
    """Return the words after the language of a block, such as limit=60, by name.

    Raises:
        DocsError: if a word is not known.
    """
    words: Words = {}
    for word in shlex.split(text):
        name, equals, value = word.partition("=")
        if name not in known:
            raise DocsError(f"{where}: {name!r} is not one of {', '.join(sorted(known))}")
        words[name] = value if equals else True
    return words


def read_page(page: Path) -> list[Block]:
    """Return the bash blocks of a page, each with the output block that follows it.

    Raises:
        DocsError: if a block is marked wrongly.
    """
    text, blocks = page.read_text(), list[Block]()
    for match in FENCE.finditer(text):
        language, words, body = match.groups()
        line = text.count("\n", 0, match.start()) + 1
        block = Block(page, line, body)
        if language == "bash":
            block.words = read_words(words, block.where, WORDS)
            if block.words.get("no-run") is True:
                raise DocsError(f'{block.where}: no-run needs a reason: no-run="..."')
            blocks.append(block)
        elif language == "output":
            block.words = read_words(words, block.where, {"shape", "no-run"})
            if "no-run" in block.words:
                continue
            if not blocks or blocks[-1].output:
                raise DocsError(f"{block.where}: no command before this output")
            blocks[-1].output = block
    return blocks


# --- comparison


def line_pattern(line: str, shape: bool) -> tuple[re.Pattern[str], list[float]]:
    """Return a regular expression for a line of an output block, and its numbers."""
    numbers, parts = [], []
    number = r"(?<![\w.])\d+\.\d+(?![\w.])"
    any_number = r"\d+(?:[.,:]\d+)*"
    for part in re.split(rf"(<[a-z][a-z ]*>|{any_number if shape else number}| +)", line):
        if re.fullmatch(r"<[a-z][a-z ]*>", part):
            parts.append("(?:.+?)")
        elif shape and re.fullmatch(any_number, part):
            parts.append(any_number)
        elif re.fullmatch(number, part):
            parts.append(r"(\d+\.\d+)")
            numbers.append(float(part))
        elif part.isspace():
            parts.append(" +")
        else:
            parts.append(re.escape(part))
    pattern = "".join(parts)
    # columns are padded to the width of what is in them
    return re.compile(rf" *{pattern.strip()} *"), numbers


def line_matches(expected: str, found: str, shape: bool) -> bool:
    pattern, numbers = line_pattern(expected, shape)
    match = pattern.fullmatch(found)
    if not match:
        return False
    near = [abs(float(b) - a) <= max(TOLERANCE * a, LEAST) for a, b in zip(numbers, match.groups())]
    return all(near)


def first_difference(expected: str, found: str, shape: bool = False) -> str | None:
    """Return the first line of `expected` that is not in its place in `found`, or None."""
    lines, position, free = found.splitlines(), 0, False
    for line in expected.splitlines():
        if line.strip() == "...":
            free = True
            continue
        last = len(lines) if free else min(position + 1, len(lines))
        hits = (k for k in range(position, last) if line_matches(line, lines[k], shape))
        position = next(hits, -1) + 1
        if not position:
            return line
        free = False
    return None if free or position == len(lines) else f"(the end; found: {lines[position]})"


def values_of(expected: str, found: str) -> dict[str, str]:
    """Return name -> value of the <words> in an output block: those of the last line with each."""
    values: dict[str, str] = {}
    for line in expected.splitlines():
        names = re.findall(r"<([a-z][a-z ]*)>", line)
        pattern = re.sub(r"\\?<[a-z][a-z\\ ]*\\?>", "(.+?)", re.escape(line))
        pattern = re.sub(r"(?:\\ )+", " +", pattern)
        for candidate in found.splitlines():
            match = re.fullmatch(rf" *{pattern.removeprefix(' +')}", candidate)
            if names and match:
                values.update(zip(names, match.groups()))
                break
    return values


# --- shells


class Shell:
    """A bash that stays alive from block to block, like the terminal of a reader."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.mark = f"end-of-block-{os.getpid()}"
        self.process = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            cwd=folder,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        stdin, stdout = self.process.stdin, self.process.stdout
        if stdin is None or stdout is None:  # for the type checker: both are pipes
            raise OSError("bash has no pipes")
        self.stdin, self.stdout = stdin, stdout
        self.script = Path(folder, f".block-{self.process.pid}.sh")

    def run(self, text: str, limit: float) -> tuple[str, int]:
        """Return the output of some commands, and the exit code of the last one that failed.

        Raises:
            TimeoutError: with the output so far, after `limit` seconds.
        """
        self.script.write_text(text)
        around = (
            "failed=0; trap 'failed=$?' ERR; source {script} </dev/null; trap - ERR;"
            " printf '%s %s\\n' {mark} \"$failed\"\n"
        )
        self.stdin.write(around.format(script=self.script, mark=self.mark).encode())
        self.stdin.flush()
        return self.read(limit)

    def read(self, limit: float) -> tuple[str, int]:
        """Return what the shell prints up to the mark, and the exit code after it."""
        deadline, output = time.monotonic() + limit, b""
        end = re.compile(rf"{self.mark} (\d+)\n".encode())
        while not (match := end.search(output)):
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self.stdout], [], [], max(left, 0))
            chunk = os.read(self.stdout.fileno(), 65536) if ready else b""
            if not chunk:
                raise TimeoutError(output.decode(errors="replace"))
            output += chunk
        return output[: match.start()].decode(errors="replace"), int(match[1])

    def close(self) -> None:
        self.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)


def path_without_slurm(folder: Path) -> str:
    """Return a PATH with every command of this machine except Slurm's."""
    folder.mkdir()
    for place in os.get_exec_path():
        for command in Path(place).iterdir() if Path(place).is_dir() else ():
            link = folder / command.name
            if command.name not in SLURM and not link.is_symlink():
                link.symlink_to(command)
    return str(folder)


# --- the walk


class Reader:
    """Follows pages in a new home folder, with a clone of the repository."""

    def __init__(self, venv: Path, capture: bool = False, any_version: bool = False) -> None:
        self.home = home = Path(tempfile.mkdtemp(prefix="reader-"))
        self.capture, self.any_version = capture, any_version
        ours = ("SLURM", "SBATCH", "GIT_", "MAKE", "DATA_DIR", "VENV", "OMP_", "PYTHONPATH")
        env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        env |= {"HOME": str(home), "GIT_PAGER": "cat", "COLUMNS": "100"}
        self.env = env
        self.login = Shell(home, env)
        self.venv = venv
        self.values: dict[str, str] = {}
        self.jobs: list[tuple[str, str, Block]] = []  # id, expected state, where it was submitted
        self.at_end: list[Block] = []
        self.changes: list[tuple[Block, str]] = []

    @cached_property
    def laptop(self) -> Shell:
        """A shell without Slurm."""
        path = path_without_slurm(self.home / ".without-slurm")
        return Shell(self.home, {**self.env, "PATH": path})

    def install_slurm(self) -> None:
        """Do what the page of the practice cluster asks for once, if it is not done yet."""
        install = shlex.quote(str(ROOT / "cluster/practice")) + " install"
        found, code = self.login.run(f"command -v slurmctld sbatch || {install}", 900)
        if code:
            raise DocsError(f"Slurm is missing, and cannot be installed: {found.strip()}")

    def clone(self) -> None:
        """Do what README's first block does, with an environment that exists."""
        words = f"git clone --quiet {shlex.quote(str(ROOT))} hpc-starter && cd hpc-starter"
        words += " && git checkout --quiet -B main"  # wherever the commit is
        found, code = self.login.run(f"{words} && ln -s {shlex.quote(str(self.venv))} env", 120)
        if code:
            raise DocsError(f"the repository cannot be cloned:\n{found}")

    def follow(self, page: Path, only_setup: bool = False) -> None:
        for block in read_page(page):
            if "no-run" in block.words or (only_setup and "setup" not in block.words):
                continue
            if "at-end" in block.words:
                self.at_end.append(block)
            else:
                self.run(block)

    def run(self, block: Block) -> None:
        """Run a block, and compare its exit code and its output with the page.

        Raises:
            DocsError: if they differ.
        """
        if "at-once" not in block.words:
            self.wait_for_jobs()
        command = self.fill_in(block)
        shell = self.login
        if "laptop" in block.words:
            shell = self.laptop
            folder, _ = self.login.run("pwd", 5)
            command = f"cd {shlex.quote(folder.strip())}\n{command}"
        shown = block.text.strip().replace("\n", " && ")
        print(f"{block.where}: {shown:.70}", flush=True)
        deadline = time.monotonic() + float(block.words.get("wait", 0))
        while True:
            found, code = self.execute(block, shell, command)
            wrong = self.mistake(block, found, code)
            if not wrong or time.monotonic() > deadline:
                break
            time.sleep(1)
        output = block.output
        if output and self.capture and self.difference(output, output.text, found):
            self.changes.append((output, self.generalise(found)))
        elif wrong:
            raise DocsError(wrong)
        state = str(block.words.get("state", "COMPLETED"))
        self.jobs += [(job, state, block) for job in JOB.findall(found)]
        if output:
            self.values |= values_of(output.text, found)
        self.after(block, found)

    def execute(self, block: Block, shell: Shell, command: str) -> tuple[str, int]:
        limit = float(block.words.get("limit", 120))
        try:
            return shell.run(command, limit)
        except TimeoutError as error:
            raise DocsError(f"{block.where}: no end after {limit:.0f} s\nfound:\n{error}") from None

    def mistake(self, block: Block, found: str, code: int) -> str | None:
        """Return how a block ended or printed differently from its page, or None."""
        expected = int(block.words.get("exit", 0))
        if code != expected:
            return f"{block.where}: exit code {code}, expected {expected}\nfound:\n{found}"
        output = block.output
        different = self.difference(output, output.text, found) if output else None
        if output and different:
            return f"{output.where}: expected:\n{different}\nfound:\n{found}"
        return None

    def after(self, block: Block, found: str) -> None:
        """Called after each block; for subclasses."""

    def fill_in(self, block: Block) -> str:
        """Return the text of a block, with values in place of <words>."""

        def value(match: re.Match[str]) -> str:
            if match[1] not in self.values:
                raise DocsError(f"{block.where}: no output before it shows <{match[1]}>")
            return self.values[match[1]]

        return re.sub(r"<([a-z][a-z ]*)>", value, block.text)

    def difference(self, output: Block, expected: str, found: str) -> str | None:
        """Return the first expected line that is not in its place in what was found, or None."""
        if self.any_version:  # the runs of earlier pages are missing
            expected = re.sub(r"version_\d+", "version_<number>", expected)
        return first_difference(expected, found, "shape" in output.words)

    def generalise(self, found: str) -> str:
        """Return an output with <words> in place of what differs from reader to reader."""
        found = found.replace(f"{self.home}/hpc-starter", "<folder>")
        for job, _, _ in self.jobs:
            found = re.sub(rf"\b{job}\b", "<job id>", found)
        return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}", "<time>", found)

    def wait_for_jobs(self, limit: float = 900) -> None:
        """Wait until the jobs of earlier blocks have ended, and compare their states."""
        deadline = time.monotonic() + limit
        for job, expected, block in self.jobs:
            state = "PENDING"
            while state in RUNNING and time.monotonic() < deadline:
                time.sleep(0.5)
                state = self.job_state(job)
            if state != expected:
                raise DocsError(f"{block.where}: job {job} is {state}, expected {expected}")
        if self.jobs:
            # the accounting is updated a moment later
            self.login.run("sleep 2", 10)
        self.jobs = []

    def job_state(self, job: str) -> str:
        shown, _ = self.login.run(f"scontrol --oneliner show job {job} || true", 60)
        match = re.search(r"JobState=(\w+)", shown)
        return match[1] if match else "UNKNOWN"

    def finish(self) -> None:
        """Run the blocks of the end, and write captured outputs into their pages."""
        self.wait_for_jobs()
        for block in self.at_end:
            self.run(block)
        for output, found in reversed(self.changes):
            text = output.page.read_text()
            output.page.write_text(text.replace(output.text, found, 1))
            print(f"{output.where}: written")

    def close(self, keep: bool = False) -> None:
        """Stop the shells and, unless they are kept for a look, the cluster and the home folder."""
        self.login.close()
        if "laptop" in vars(self):
            self.laptop.close()
        practice = self.home / "hpc-starter/cluster/practice"
        if not keep and practice.is_file():
            subprocess.run([practice, "down"], env=self.env, stdout=subprocess.DEVNULL, check=False)
        if not keep:
            shutil.rmtree(self.home, ignore_errors=True)


def lesson_pages() -> list[Path]:
    return sorted(ROOT.glob("docs/lessons/*.md"), key=lambda page: int(page.stem))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Run the commands of the pages, and compare what they print.",
    )
    parser.add_argument("--only", type=int, metavar="N", help="follow one lesson only")
    parser.add_argument(
        "--capture", action="store_true", help="write what was found into the pages"
    )
    parser.add_argument("--keep", action="store_true", help="after a failure, keep the folder")
    parser.add_argument("--venv", default=ROOT / "env", type=Path, help="Python environment")
    return parser.parse_args()


def walk(reader: Reader, only: int | None = None, keep: bool = False) -> None:
    """Follow all pages, or a single lesson after the setup that it needs.

    Raises:
        SystemExit: with a sentence, if there is no such lesson or a page differs from what happens.
    """
    pages = [page for page in lesson_pages() if only in (None, int(page.stem))]
    earlier = [page for page in lesson_pages() if only is not None and int(page.stem) < only]
    if not pages:
        raise SystemExit(f"there is no lesson {only}: choose from 1 to {len(lesson_pages())}")
    done = False
    try:
        reader.install_slurm()
        reader.clone()
        for name in BEFORE:
            reader.follow(ROOT / name, only_setup=only is not None)
        for page in earlier:
            reader.follow(page, only_setup=True)
        for page in pages:
            reader.follow(page)
        reader.finish()
        print(f"{len(pages) + len(BEFORE)} pages: the commands print what the pages show")
        done = True
    except DocsError as error:
        print(error, file=sys.stderr)
        if keep:
            look = f"cd {reader.home}/hpc-starter && HOME={reader.home} bash"
            print(f"to look at it: {look}", file=sys.stderr)
        raise SystemExit(1) from None
    finally:
        reader.close(keep and not done)


def main() -> None:
    args = parse_args()
    reader = Reader(args.venv.absolute(), args.capture, any_version=args.only is not None)
    walk(reader, args.only, args.keep)


if __name__ == "__main__":
    main()
