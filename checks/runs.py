"""The runs that a lesson left behind, and the checks that several lessons share: see check.py."""

import json
import math
import re
import shutil
import struct
import subprocess
import zipfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EPOCH = re.compile(
    r"epoch +(\d+)/(\d+)  train loss (\S+) acc (\S+)  val loss (\S+) acc (\S+)",
)
TEST = re.compile(r"test loss (\S+) acc (\S+)")
UNFINISHED = (
    *("PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "REQUEUED", "SUSPENDED"),
    "SIGNALING",  # Slurm is sending the signal of --signal
)


class Wrong(Exception):
    """A failed check: what was found, what was expected, and what to try."""

    def __init__(self, found, expected, advice):
        super().__init__(found)
        self.found, self.expected, self.advice = found, expected, advice


# --- what a run has left behind


@dataclass
class Run:
    """A training: its log and, from lesson 2 on, its folder."""

    name: str  # for messages
    lesson: int | None  # None if unknown
    log: Path | None
    folder: Path | None = None
    errors: Path | None = None
    settings: dict = field(default_factory=dict)
    waiting: str | None = None  # id of the job that works or waits for the run's folder (lesson 9)
    newer: list = field(default_factory=list)  # runs like this one that changed later

    @cached_property
    def text(self):
        return self.log.read_text(errors="replace") if self.log and self.log.is_file() else ""

    @property
    def epochs(self):
        """Return the numbers in the epoch lines of the last attempt."""
        lines = [match.groups() for match in EPOCH.finditer(self.text)]
        starts = [k for k, line in enumerate(lines) if line[0] == "1"]
        return lines[starts[-1] :] if starts else lines

    @property
    def job(self):
        """Return the id of the newest job, or None if the run was not a job."""
        if self.waiting or self.attempts:
            return self.waiting or self.attempts[-1].get("job")
        match = self.log and re.search(r"(?:^slurm\.|_)(\d+)\.out$", self.log.name)
        # from lesson 9 on, the names of the logs have no job id, but Slurm's messages do
        match = match or re.search(r"(?:JOB |StepId=|STEP )(\d+)", self.said_last)
        # the pages call a log without a job slurm.0.out
        return match[1] if match and int(match[1]) else None

    @cached_property
    def attempts(self):
        """Return what the run has noted about each attempt, the first one first (lesson 9)."""
        try:
            lines = (self.folder / "attempts.jsonl").read_text().splitlines()
            return [json.loads(line) for line in lines]
        except (OSError, ValueError, TypeError):
            return []

    @property
    def done(self):
        try:
            return json.loads((self.folder / "DONE.json").read_text())
        except (OSError, ValueError, TypeError):
            return None

    @property
    def test_accuracy(self):
        found = TEST.findall(self.text)
        if found and not (self.attempts and self.done):  # it may have ended elsewhere
            return as_number(found[-1][1])
        return (self.done or {}).get("test_acc")

    @property
    def last_words(self):
        """Return the last line of the error log or, if there were no errors, of the log."""
        lines = [line for line in (self.said_last or self.text).splitlines() if line.strip()]
        return lines[-1].strip()[:200] if lines else ""

    @property
    def said_last(self):
        """Return the text of the error log."""
        exists = self.errors and self.errors.is_file()
        return self.errors.read_text(errors="replace") if exists else ""

    @cached_property
    def state(self):
        """Return the state of the job in Slurm, or None if Slurm does not know it."""
        if not self.job:
            return None
        for command in (
            ["squeue", "--noheader", "--states=all", f"--jobs={self.job}", "--format=%T"],
            ["sacct", "--noheader", "--allocations", "--parsable2", "-o", "State", "-j", self.job],
        ):
            shown = output_of(command).split()
            if shown:
                return shown[-1] if command[0] == "squeue" else shown[0]
        return None

    def values(self, tag):
        """Return the numbers that TensorBoard shows under a tag, or None if it has no such tag."""
        found = None
        for file in sorted(self.folder.glob("events.out.tfevents.*")):
            numbers = event_values(file).get(tag)
            found = found if numbers is None else (found or []) + numbers
        return found

    def curve(self, tag):
        """Return step -> value; if an attempt repeats steps of a killed one, its values count."""
        return {
            step: number
            for file in sorted(self.folder.glob("events.out.tfevents.*"))
            for event in events(file)
            for step in fields(event, 2)
            for number in values_of(event).get(tag, [])
        }


def number_of(count, noun):
    return f"{count} {noun}{'' if count == 1 else 's'}"


def path_of(path):
    """Return a path as messages show it: file names alone occur in several experiments."""
    return path.relative_to(ROOT)


def as_number(text):
    try:
        return float(text)
    except ValueError:
        return float("nan")


def output_of(command, timeout=2):
    """Return what a command prints, or "" if it is missing, fails or does not answer."""
    if not shutil.which(command[0]):
        return ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    except (subprocess.TimeoutExpired, OSError):
        return ""
    return done.stdout if done.returncode == 0 else ""


def accounting(fields, *options):
    """Return a dict of these fields for each job in Slurm's accounting, the newest job first."""
    form = ["--noheader", "--allocations", "--parsable2", f"--format={','.join(fields)}"]
    shown = output_of(["sacct", *form, *options], timeout=5)
    rows = [line.split("|") for line in shown.splitlines()]
    return [dict(zip(fields, row, strict=True)) for row in rows if len(row) == len(fields)][::-1]


def read_settings(file):
    """Return name -> text of the simple values in a hparams.yaml."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return {}
    pairs = [line.partition(": ") for line in lines if re.match(r"\w+: \S", line)]
    return {name: value.strip("'\"") for name, _, value in pairs}


def read_config(file):
    """Return dotted name -> text of the values in a config.yaml (from lesson 10 on).

    The values of a list are joined by commas.
    """
    text = file.read_text(errors="replace") if file.is_file() else ""
    settings, path = {}, []
    for line in text.splitlines():
        spaces, dash, rest = re.fullmatch(r"( *)(- )?(.*)", line).groups()
        name, colon, value = rest.partition(":")
        value = value.strip().strip("'\"")
        depth = len(spaces) // 2
        if colon and re.fullmatch(r"[\w-]+", name):
            path[depth + bool(dash) :] = [name]
            if value:
                settings[".".join(path)] = value
        elif dash:
            name = ".".join(path[: depth + 1])
            settings[name] = ",".join(filter(None, [settings.get(name), rest.strip("'\"")]))
    return settings


def read_command(file):
    """Return name -> text of the arguments in a command.txt, for a run that has not begun yet."""
    text = file.read_text(errors="replace") if file.is_file() else ""
    return dict(re.findall(r" --(\w+)=(\S+)", text))


def event_values(file):
    """Return tag -> its numbers in an event file of TensorBoard."""
    values = {}
    for event in events(file):
        for tag, numbers in values_of(event).items():
            values.setdefault(tag, []).extend(numbers)
    return values


def events(file):
    """Yield the events in an event file of TensorBoard, a sequence of TFRecords.

    Each record is its length (8 bytes), a checksum (4), an Event in protocol buffers encoding,
    and a checksum (4): https://www.tensorflow.org/tutorials/load_data/tfrecord
    """
    data, place = file.read_bytes(), 0
    while place + 12 <= len(data):
        (length,) = struct.unpack_from("<Q", data, place)
        yield data[place + 12 : place + 12 + length]
        place += 16 + length


def values_of(event):
    """Return tag -> its numbers in an event."""
    values = {}
    for summary in fields(event, 5):
        for value in fields(summary, 1):
            for tag in fields(value, 1):
                numbers = values.setdefault(tag.decode(errors="replace"), [])
                numbers += [struct.unpack("<f", number)[0] for number in fields(value, 2)]
    return values


def fields(message, number):
    """Yield each integer, and the bytes of each text, float or message, with this number.

    The message is a protocol buffer.
    """
    place = 0
    while place < len(message):
        key, place = varint(message, place)
        kind = key & 7
        if kind == 0:
            integer, place = varint(message, place)
            if key >> 3 == number:
                yield integer
            continue
        size = {1: 8, 5: 4}.get(kind)
        if size is None:
            size, place = varint(message, place)
        if key >> 3 == number and kind in (2, 5) and place + size <= len(message):
            yield message[place : place + size]
        place += size


def varint(message, place):
    """Return a number of variable length, and the position after it."""
    number = shift = 0
    while place < len(message):
        byte = message[place]
        number, shift, place = number | (byte & 127) << shift, shift + 7, place + 1
        if byte < 128:
            break
    return number, place


# --- finding the runs of a lesson


def newest_first(paths):
    return sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True)


def newest_run_first(runs):
    def changed(run):
        paths = [path for path in (run.log, run.folder) if path and path.exists()]
        return max((path.stat().st_mtime for path in paths), default=math.inf)

    return sorted(runs, key=changed, reverse=True)


def jobs_of_run_sh():
    """Return the ids of the jobs of run.sh that wait or run; it may have come by a pipe."""
    shown = output_of(["squeue", "--me", "--noheader", "--Format=JobID:30,STDOUT:4096"])
    jobs = [line.strip().partition(" ") for line in shown.splitlines()]
    # %j in the name of the log is shown as it is, or as the job id
    logs = {job: Path(log.strip().replace("%j", job)).resolve() for job, _, log in jobs}
    return [job for job, log in logs.items() if log == ROOT / f"slurm.{job}.out"]


def runs_by_sbatch():
    """Return the runs of lessons 1 to 3, newest first."""
    runs, in_folder = [], set()
    for folder in ROOT.glob("lightning_logs/version_*"):
        number = folder.name.partition("_")[2]
        log = ROOT / f"slurm.{number}.out"
        settings = read_settings(folder / "hparams.yaml")
        lesson = None if not settings else 3 if "num_workers" in settings else 2
        in_folder.add(log)
        runs.append(Run(str(folder.relative_to(ROOT)), lesson, log, folder, settings=settings))
    logs = {ROOT / f"slurm.{job}.out" for job in jobs_of_run_sh()}  # a waiting job has no file yet
    for log in logs.union(ROOT.glob("slurm.*.out")) - in_folder:
        text = log.read_text(errors="replace") if log.is_file() else ""
        first = 1 if re.match(r"data: .*\n(?!device: )", text + "\n") else None
        runs.append(Run(log.name, first, log))
    return newest_run_first(runs)


def lesson_of(code):
    """Return the lesson whose program is in a run's copy of the code."""
    marks = {
        10: "src/utils/targets.py",
        9: "src/callbacks/interruption.py",
        8: "src/launch/processes.py",
        7: "src/networks/resnet.py",
        6: "src/datasets/cifar10.py",
        5: "src/callbacks/tensorboard.py",
        4: "run.py",
    }
    return next((lesson for lesson, mark in marks.items() if (code / mark).is_file()), None)


def runs_by_run_py():
    """Return the runs of lessons 4 and later, newest first."""
    runs, jobs = [], jobs_of_folders()
    for folder in ROOT.glob("logs/*/version_*"):
        lesson = lesson_of(folder / "code")
        log, errors = logs_of(folder, lesson)
        run = Run(
            str(folder.relative_to(ROOT)),
            lesson,
            log=log,
            folder=folder,
            errors=errors,
            settings=settings_of(folder),
            waiting=jobs.get(folder),
        )
        runs.append(run)
    return newest_run_first(runs)


def settings_of(folder):
    """Return name -> text of a run's settings, from what it wrote first, or its job will write."""
    return (
        read_config(folder / "config.yaml")
        or read_settings(folder / "hparams.yaml")
        or read_command(folder / "command.txt")
    )


def logs_of(folder, lesson):
    """Return the log and the error log of a run, or None if it was not a job."""
    if lesson and lesson >= 9:
        is_job = (folder / "job.sh").is_file()
        return (folder / "job.out", folder / "job.err") if is_job else (None, None)
    logs, name = folder.parent, folder.name
    found = newest_first(logs.glob(f"slurm_out_logs/{name}_*.out"))
    errors = newest_first(logs.glob(f"slurm_err_logs/{name}_*.err"))
    return found[0] if found else None, errors[0] if errors else None


def jobs_of_folders():
    """Return the folder of a run -> the id of its job that waits or runs (from lesson 9 on)."""
    shown = output_of(["squeue", "--me", "--noheader", "--format=%i|%Z|%k"])
    jobs = [line.strip().split("|") for line in shown.splitlines() if line.count("|") == 2]
    return {Path(root, folder): job for job, root, folder in jobs}


# --- checks of one run


def has_ended(run):
    """The training has ended without an error."""
    last, of = (run.epochs[-1][:2]) if run.epochs else (0, "?")
    if run.state in UNFINISHED:
        where = f"job {run.job} is {run.state} ({run.name})"
        where += f", epoch {last} of {of}" if run.epochs else ""
        wait = "wait until squeue --me no longer lists it"
        raise Wrong(where, "a job that has ended", wait)
    finished = TEST.search(run.text) or (run.done and (run.attempts or not run.text))
    if finished and run.state in (None, "COMPLETED") and (run.done or run.lesson == 1):
        return
    if not run.text.strip() and not run.last_words and run.state is None and run.log:
        found = f"{path_of(run.log)} is empty or missing"
        raise Wrong(
            found, "the log of a training", "see squeue --me; if the job is gone, submit again"
        )
    state = f"{run.state}, " if run.state else ""
    said = f"the last line is: {run.last_words}" if run.last_words else "no DONE.json"
    found = f"{run.name}: {state}epoch {last} of {of}; {said}"
    advice = 'look for that line under "When it goes wrong" on the page, then run it again'
    raise Wrong(found, "a training that has reached its test", advice)


def has_all_epochs(run):
    """All ten epochs ran."""
    if not run.text:  # trained outside a job: the log was on the terminal
        name = "trainer.max_epochs" if run.lesson and run.lesson > 9 else "max_epochs"
        found = run.settings.get(name, "10")
        if found == "10":
            return
        found = f"{number_of(int(found), 'epoch')} in {run.name}"
        raise Wrong(found, "10 epochs", f"run it without {name}")
    numbers = [int(line[0]) for line in run.epochs]
    if numbers != list(range(1, 11)) or {line[1] for line in run.epochs} != {"10"}:
        found = f"{number_of(len(numbers), 'epoch line')} in {path_of(run.log)}"
        advice = f"run the lesson's program with its own settings; {start_again(run)}"
        raise Wrong(found, "the lines of epochs 1 to 10", advice)


def start_again(run):
    command = f"python3 start_lesson.py {run.lesson or 'N'}"
    return f"git status lists your edits; {command} saves them and starts the lesson again"


def learns(bounds):
    """Return a check that a network has learned."""

    def check(run):
        """The network has learned."""
        sample = "sample" in run.text or not run.text
        accuracy, least = run.test_accuracy, bounds[sample]
        if accuracy is None or not accuracy >= least:
            data = "the sample" if sample else "the full data"
            expected = f"at least {least} on {data}"
            advice = f"compare your code with the lesson; {start_again(run)}"
            raise Wrong(f"test accuracy {accuracy} in {run.name}", expected, advice)
        losses = [as_number(line[2]) for line in run.epochs]
        if losses and not losses[-1] < losses[0]:
            found = f"training loss {losses[0]} at first, {losses[-1]} at the end"
            raise Wrong(found, "a training loss that falls", "lower the learning rate")

    return check


def has_checkpoint(run):
    """The run folder has a complete checkpoint."""
    for path in run.folder.glob("checkpoints/*.ckpt"):
        if zipfile.is_zipfile(path):
            return
        raise Wrong(f"{path.name} is damaged", "a complete checkpoint", "run the training again")
    raise Wrong(f"no checkpoint in {run.name}", "checkpoints/*.ckpt", "run the training again")


def shows(*wanted):
    """Return a check that TensorBoard has something to show."""

    def check(run):
        """TensorBoard has curves to show."""
        missing = [tag for tag in wanted if run.values(tag) is None]
        if missing:
            found = f"{', '.join(missing)} is missing in {run.name}"
            raise Wrong(found, f"the tags {', '.join(wanted)}", "run the training to its end")

    return check


CURVES = shows("train_loss", "train_acc", "val_loss", "val_acc")
TRAINED = [has_ended, has_all_epochs]


# --- which run to judge


def with_newer(judged, runs):
    """Return a run that knows which of some runs are newer."""
    runs = newest_run_first(runs)
    judged.newer = runs[: runs.index(judged)]
    return judged


def unfinished_newer(judged):
    """Return a sentence about the newest run that is newer and has not ended well, or None."""
    for run in judged.newer:
        try:
            has_ended(run)
        except Wrong:
            known = run.state and run.state != "COMPLETED"
            how = f"is {run.state}" if known else "has not ended, or ended with an error"
            return f"{run.name} {how}"
    return None


def best(runs, checks, experiment=None):
    """Return a run that passes all checks; if there is none, the best in the page's experiment.

    The best is the one that passes the most checks; among equals, it is the newest.
    """

    def passed(run):
        count = 0
        for check in checks:
            try:
                check(run)
            except Wrong:
                break
            count += 1
        return count

    def order(run):
        count = passed(run)
        asked_for = bool(run.folder) and run.folder.parent.name == experiment
        return count == len(checks), asked_for, count

    return max(runs, key=order)  # the first of equals is the newest: runs are sorted


def run_of(lesson, runs, checks, how, experiment=None, **settings):
    """Return the run to judge, if possible one in the experiment that the page asks for.

    Raises:
        Wrong: if there is none with these settings.
    """
    ours = [run for run in runs if run.lesson == lesson or (lesson < 4 and run.lesson is None)]
    fitting = [run for run in ours if all(run.settings.get(k) == v for k, v in settings.items())]
    starting = [run for run in ours if not run.settings]  # it has not written its settings yet
    if fitting or starting:
        experiment = experiment or settings.get("dataset")  # run.py's default
        return with_newer(best(fitting or starting, checks, experiment), fitting + starting)
    others = sorted({run.lesson for run in runs if run.lesson and run.lesson != lesson})
    found = f"only runs of lesson {', '.join(map(str, others))}" if others else "no run"
    if ours:
        found = f"only runs with other settings: {', '.join(run.name for run in ours[:3])}"
    dashes = "--" if lesson < 10 else ""
    words = " ".join(f"{dashes}{name}={value}" for name, value in settings.items())
    raise Wrong(found, f"a run of lesson {lesson} {words}".strip(), how)
