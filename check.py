#!/usr/bin/env python3
"""Did it work? Check what the current lesson has left behind: python check.py

It looks at logs, run folders and the state of jobs, needs no network and changes nothing. The exit
code is 0 if all checks pass, and 1 otherwise. Only the standard library is used.
"""

import argparse
import json
import re
import shutil
import struct
import subprocess
import zipfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parent
EPOCH = re.compile(
    r"epoch +(\d+)/(\d+)  train loss (\S+) acc (\S+)  val loss (\S+) acc (\S+)",
)
TEST = re.compile(r"test loss (\S+) acc (\S+)")
UNFINISHED = ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "REQUEUED", "SUSPENDED")
# lowest test accuracy of a network that has learned: with the full data, with the sample
DIGITS, PHOTOS, RESNET = (0.95, 0.85), (0.35, 0.13), (0.6, 0.35)
PLOTS = ("images/confusion_matrix", "images/examples", "images/predictions")


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
        """Return the job id, or None if the run was not a job."""
        match = self.log and re.search(r"(?:^slurm\.|_)(\d+)\.out$", self.log.name)
        return match[1] if match else None

    @property
    def done(self):
        try:
            return json.loads((self.folder / "DONE.json").read_text())
        except (OSError, ValueError, TypeError):
            return None

    @property
    def test_accuracy(self):
        found = TEST.findall(self.text)
        if found:
            return as_number(found[-1][1])
        return (self.done or {}).get("test_acc")

    @property
    def last_words(self):
        """Return the last line of the error log or, if there were no errors, of the log."""
        errors = self.errors.read_text(errors="replace") if self.errors else ""
        lines = [line for line in (errors or self.text).splitlines() if line.strip()]
        return lines[-1].strip()[:200] if lines else ""

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

    def tags(self):
        """Return the tags of the data that TensorBoard shows."""
        return set().union(*map(event_tags, self.folder.glob("events.out.tfevents.*")), set())


def as_number(text):
    try:
        return float(text)
    except ValueError:
        return float("nan")


def output_of(command):
    """Return what a command prints, or "" if it is missing, fails or does not answer."""
    if not shutil.which(command[0]):
        return ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=2)
    except (subprocess.TimeoutExpired, OSError):
        return ""
    return done.stdout if done.returncode == 0 else ""


def read_settings(file):
    """Return name -> text of the simple values in a hparams.yaml."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return {}
    pairs = [line.partition(": ") for line in lines if re.match(r"\w+: \S", line)]
    return {name: value.strip("'\"") for name, _, value in pairs}


def event_tags(file):
    """Return the tags in an event file of TensorBoard, a sequence of TFRecords.

    Each record is its length (8 bytes), a checksum (4), an Event in protocol buffers encoding,
    and a checksum (4): https://www.tensorflow.org/tutorials/load_data/tfrecord
    """
    data, place, tags = file.read_bytes(), 0, set()
    while place + 12 <= len(data):
        (length,) = struct.unpack_from("<Q", data, place)
        event = data[place + 12 : place + 12 + length]
        for summary in fields(event, 5):
            for value in fields(summary, 1):
                tags |= {tag.decode(errors="replace") for tag in fields(value, 1)}
        place += 16 + length
    return tags


def fields(message, number):
    """Yield the bytes of each field with this number in a protocol buffers message."""
    place = 0
    while place < len(message):
        key, place = varint(message, place)
        kind = key & 7
        if kind == 0:
            _, place = varint(message, place)
            continue
        size = {1: 8, 5: 4}.get(kind)
        if size is None:
            size, place = varint(message, place)
        if key >> 3 == number and kind == 2:
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


def runs_by_sbatch():
    """Return the runs of lessons 1 to 3, newest first."""
    runs, in_folder = [], set()
    for folder in newest_first(ROOT.glob("lightning_logs/version_*")):
        number = folder.name.partition("_")[2]
        log = ROOT / f"slurm.{number}.out"
        settings = read_settings(folder / "hparams.yaml")
        lesson = None if not settings else 3 if "num_workers" in settings else 2
        in_folder.add(log)
        runs.append(Run(str(folder.relative_to(ROOT)), lesson, log, folder, settings=settings))
    for log in newest_first(ROOT.glob("slurm.*.out")):
        if log not in in_folder:
            text = log.read_text(errors="replace")
            first = 1 if re.match(r"data: .*\n(?!device: )", text + "\n") else None
            runs.append(Run(log.name, first, log))
    return runs


def lesson_of(code):
    """Return the lesson whose program is in a run's copy of the code."""
    marks = {
        8: "src/launch/processes.py",
        7: "src/networks/resnet.py",
        6: "src/datasets/cifar10.py",
        5: "src/callbacks/tensorboard.py",
        4: "run.py",
    }
    return next((lesson for lesson, mark in marks.items() if (code / mark).is_file()), None)


def runs_by_run_py():
    """Return the runs of lessons 4 and later, newest first."""
    runs = []
    for folder in newest_first(ROOT.glob("logs/*/version_*")):
        logs, name = folder.parent, folder.name
        found = newest_first(logs.glob(f"slurm_out_logs/{name}_*.out"))
        errors = newest_first(logs.glob(f"slurm_err_logs/{name}_*.err"))
        run = Run(
            str(folder.relative_to(ROOT)),
            lesson_of(folder / "code"),
            log=found[0] if found else None,
            folder=folder,
            errors=errors[0] if errors else None,
            settings=read_settings(folder / "hparams.yaml"),
        )
        runs.append(run)
    return runs


# --- checks of one run


def has_ended(run):
    """The training has ended without an error."""
    last, of = (run.epochs[-1][:2]) if run.epochs else (0, "?")
    if run.state in UNFINISHED:
        where = f"job {run.job} is {run.state}, epoch {last} of {of}"
        wait = "wait until squeue --me no longer lists it"
        raise Wrong(where, "a job that has ended", wait)
    finished = TEST.search(run.text) or (not run.text and run.done)
    if finished and run.state in (None, "COMPLETED") and (run.done or run.lesson == 1):
        return
    if not run.text.strip() and not run.last_words and run.state is None and run.log:
        found = f"{run.log.relative_to(ROOT)} is empty or missing"
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
        found = run.settings.get("max_epochs", "10")
        if found == "10":
            return
        raise Wrong(f"{found} epochs in {run.name}", "10 epochs", "run it without --max_epochs")
    numbers = [int(line[0]) for line in run.epochs]
    if numbers != list(range(1, 11)) or {line[1] for line in run.epochs} != {"10"}:
        found = f"{len(numbers)} epoch lines in {run.log.name}"
        advice = f"run the lesson's program with its own settings; {start_again(run)}"
        raise Wrong(found, "the lines of epochs 1 to 10", advice)


def start_again(run):
    command = f"python3 start_lesson.py {run.lesson or 'N'}"
    return f"git diff shows your edits; {command} saves them and starts the lesson again"


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
        missing = [tag for tag in wanted if tag not in run.tags()]
        if missing:
            found = f"{', '.join(missing)} is missing in {run.name}"
            raise Wrong(found, f"the tags {', '.join(wanted)}", "run the training to its end")

    return check


CURVES = shows("train_loss", "train_acc", "val_loss", "val_acc")
TRAINED = [has_ended, has_all_epochs]


# --- checks of a lesson


def best(runs, checks):
    """Return the run that passes the most checks; among equals, the newest."""

    def passed(run):
        count = 0
        for check in checks:
            try:
                check(run)
            except Wrong:
                break
            count += 1
        return count

    return max(runs, key=passed)  # the first of equals is the newest: runs are sorted


def run_of(lesson, runs, checks, how, **settings):
    """Return the run to judge.

    Raises:
        Wrong: if there is none with these settings.
    """
    ours = [run for run in runs if run.lesson == lesson or (lesson < 4 and run.lesson is None)]
    fitting = [run for run in ours if all(run.settings.get(k) == v for k, v in settings.items())]
    starting = [run for run in ours if not run.settings]  # it has not written its settings yet
    if fitting or starting:
        return best(fitting or starting, checks)
    others = sorted({run.lesson for run in runs if run.lesson and run.lesson != lesson})
    found = f"only runs of lesson {', '.join(map(str, others))}" if others else "no run"
    if ours:
        found = f"only runs with other settings: {', '.join(run.name for run in ours[:3])}"
    words = " ".join(f"--{name}={value}" for name, value in settings.items())
    raise Wrong(found, f"a run of lesson {lesson} {words}".strip(), how)


def lesson_1():
    checks = [*TRAINED, learns(DIGITS)]
    run = run_of(1, runs_by_sbatch(), checks, "sbatch run.sh, or bash run.sh | tee slurm.0.out")
    return [(check, run) for check in checks]


def lesson_2(lesson=2):
    checks = [*TRAINED, learns(DIGITS), has_checkpoint, CURVES]
    run = run_of(lesson, runs_by_sbatch(), checks, "sbatch run.sh, or bash run.sh")
    return [(check, run) for check in checks]


def lesson_3():
    checks = lesson_2(3)
    return [*checks, (has_workers, checks[-1][1])]


def has_workers(run):
    """run.sh requests a CPU for each worker and one for the training."""
    script = (ROOT / "run.sh").read_text()
    cpus = int(re.search(r"--cpus-per-task=(\d+)", script)[1])
    workers = int(run.settings["num_workers"])
    if cpus != workers + 1:
        found = f"{cpus} CPUs for {workers} workers"
        raise Wrong(found, f"--cpus-per-task={workers + 1}", "edit run.sh, and submit it again")


def lesson_4():
    checks = [*TRAINED, learns(DIGITS), has_checkpoint, CURVES, has_script]
    runs = runs_by_run_py()
    run = run_of(4, runs, checks, "python run.py", experiment_name="mnist")
    return [*((check, run) for check in checks), (has_trials, runs)]


def has_script(run):
    """The script of the job is kept."""
    script = run.folder.parent / f"slurm_scripts/{run.folder.name}.sh"
    if run.log and not script.is_file():
        raise Wrong(f"no {script.relative_to(ROOT)}", "the script of the run", "python run.py")


def has_trials(runs):
    """Three trials have ended, each with its own learning rate."""
    trials = [run for run in runs if run.settings.get("experiment_name") == "rates"]
    rates = {run.settings.get("learning_rate") for run in trials if run.done}
    if len(rates) < 3 and trials_need_slurm(trials):
        return
    if len(rates) < 3:
        found = f"{len(rates)} learning rates among the finished runs in logs/rates"
        how = "python run.py --experiment_name=rates --nb_trials=3, then wait for the jobs"
        raise Wrong(found, "3 trials with 3 learning rates", how)


def trials_need_slurm(trials):
    """Return whether there are no trials because this machine has no Slurm."""
    return not trials and not shutil.which("sbatch")


def lesson_5():
    checks = [*TRAINED, learns(DIGITS), has_checkpoint, CURVES, PICTURES, has_profile]
    runs = runs_by_run_py()
    how = "python run.py --experiment_name=metrics"
    adam = run_of(5, runs, checks, how, experiment_name="metrics", optimizer="Adam")
    how += " --optimizer=SGD --learning_rate=0.02"
    sgd = run_of(5, runs, TRAINED, how, experiment_name="metrics", optimizer="SGD")
    return [*((check, adam) for check in checks), *((check, sgd) for check in TRAINED)]


PICTURES = shows(*PLOTS)


def has_profile(run):
    """The profiler has written its report."""
    if not list(run.folder.glob("*profile*.txt")):
        raise Wrong(f"no profile in {run.name}", "fit-profile.txt", "run the training to its end")


def lesson_6():
    checks = [*TRAINED, learns(PHOTOS), has_checkpoint]
    runs = runs_by_run_py()
    photos = run_of(6, runs, checks, "python run.py", dataset="cifar10")
    on_digits = [*TRAINED, learns(DIGITS)]
    digits = run_of(6, runs, on_digits, "python run.py --dataset=mnist", dataset="mnist")
    return [*((check, photos) for check in checks), *((check, digits) for check in on_digits)]


def lesson_7():
    runs, checks = runs_by_run_py(), [*TRAINED, learns(RESNET), has_checkpoint]
    resnet = run_of(7, runs, checks, "python run.py", dataset="cifar10", arch="resnet18")
    how = "python run.py --arch=fully_connected"
    simple = run_of(7, runs, TRAINED, how, dataset="cifar10", arch="fully_connected")
    return [
        *((check, resnet) for check in checks),
        *((check, simple) for check in TRAINED),
        (is_better, (resnet, simple)),
    ]


def is_better(runs):
    """The ResNet is better than the fully connected network."""
    resnet, simple = (run.test_accuracy for run in runs)
    if not resnet > simple:
        found = f"test accuracy {resnet} and {simple}"
        raise Wrong(found, "a larger one for the ResNet", "run both without --limit and --overfit")


def lesson_8():
    runs, checks = runs_by_run_py(), [*TRAINED, learns(RESNET), has_checkpoint, knows_processes]
    ours = [run for run in runs if number_of_processes(run) > 1]
    how = "python run.py --num_nodes=2 --devices=2, or python run.py --local --devices=2"
    run = run_of(8, ours or runs, checks, how)
    return [(check, run) for check in checks]


def number_of_processes(run):
    nodes, devices = (int(run.settings.get(name, 1)) for name in ("num_nodes", "devices"))
    return nodes * devices


def knows_processes(run):
    """Several processes trained together."""
    count = number_of_processes(run)
    said = re.search(r"processes: (\d+) ", run.text)
    if count < 2 or (said and int(said[1]) != count):
        found = f"{said[1] if said else count} process in {run.name}"
        raise Wrong(found, "several", "python run.py --num_nodes=2 --devices=2")


LESSONS = {
    1: lesson_1,
    2: lesson_2,
    3: lesson_3,
    4: lesson_4,
    5: lesson_5,
    6: lesson_6,
    7: lesson_7,
    8: lesson_8,
}


# --- which lesson, and the verdict


def git(*words):
    return output_of(["git", "-C", str(ROOT), *words])


def current_lesson():
    """Return the number of the lesson whose branch is checked out, or None.

    A branch of another name belongs to the last lesson that it contains.
    """
    branch = git("branch", "--show-current").strip()
    if match := re.match(r"(\d+)-", branch):
        return int(match[1])
    if branch in ("main", "master"):
        return None
    contained = git(
        "for-each-ref", "--merged=HEAD", "--format=%(refname:lstrip=2)", "refs/pristine"
    )
    numbers = re.findall(r"^(\d+)-", contained, re.MULTILINE)
    return max(map(int, numbers), default=None)


def judge(lesson):
    """Print the verdict on a lesson, and return whether all checks pass."""
    passed, checks = 0, []
    try:
        checks = LESSONS[lesson]()
        for check, subject in checks:
            check(subject)
            passed += 1
    except Wrong as wrong:
        what = f" {checks[passed][0].__doc__}" if checks else ""
        total = f"/{len(checks)}" if checks else ""
        print(f"FAIL after {passed}{total}:{what}")
        print(f"  found:    {wrong.found}")
        print(f"  expected: {wrong.expected}")
        print(f"  try:      {wrong.advice}")
        return False
    print(f"PASS {passed}/{passed}: lesson {lesson}")
    return True


def main():
    parser = argparse.ArgumentParser(description="Check what the current lesson has left behind.")
    parser.add_argument(
        "--lesson", type=int, choices=LESSONS, help="lesson to check; default: the current branch's"
    )
    lesson = parser.parse_args().lesson or current_lesson()
    if lesson not in LESSONS:
        raise SystemExit(
            "this is not the branch of a lesson with checks: switch to such a branch first,"
            f" or run python check.py --lesson N (1 to {max(LESSONS)})"
        )
    raise SystemExit(not judge(lesson))


if __name__ == "__main__":
    main()
