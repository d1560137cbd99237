"""The measurements of tools/measure.py: what each runs, on which data, and how long it takes."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import run_docs
from course import CLUSTER_PAGE, Course, Values, rounded_up
from measured import ROOT, MeasuredError

sys.path += [str(ROOT), str(ROOT / "benchmarks")]
from data.check import check_data, remedy
from machine import num_cpus, processor

FOLDERS = {"MNIST": "MNIST", "CIFAR-10": "cifar-10-batches-py"}
EPOCH = re.compile(r"epoch +\d+/\d+  train loss (\S+) acc (\S+)  val loss (\S+) acc (\S+)")
ONE_EPOCH = "python run.py --local --max_epochs=1"
TEST = re.compile(r"test loss (\S+) acc (\S+)")


def rounded(value: float, digits: int = 3) -> int:
    """Return a number with so many digits that are not 0."""
    return int(float(f"{value:.{digits}g}"))


def results(log: str) -> Values:
    """Return the losses and accuracies of a log: of the last epoch, of all epochs, of the test."""
    rows = [tuple(map(float, match.groups())) for match in EPOCH.finditer(log)]
    names = ("train_loss", "train_acc", "val_loss", "val_acc")
    found: Values = dict(zip(names, rows[-1], strict=True))
    for name, column in zip(names, zip(*rows, strict=True), strict=True):
        found[f"{name}_by_epoch"] = list(column)
    best = max(range(len(rows)), key=lambda k: rows[k][3])
    found |= {"best_epoch": best + 1, "best_val_acc": rows[best][3]}
    if test := TEST.search(log):
        found |= {"test_loss": float(test[1]), "test_acc": float(test[2])}
    return found


def number_of_last(text: str, pattern: str) -> float:
    return float(re.findall(pattern, text)[-1].replace(",", ""))


# --- what is measured


def lesson_job(course: Course, lesson: int, command: str) -> Values:
    course.switch(lesson)
    log, used = course.job(command, minutes=20)
    return {**results(log), **used, **overfitting(log)}


def overfitting(log: str) -> Values:
    """Return where the validation loss is lowest, and its range in the last four epochs."""
    losses = results(log)["val_loss_by_epoch"]
    best = min(range(len(losses)), key=losses.__getitem__)
    found = {"lowest_epoch": best + 1, "lowest_val_loss": losses[best]}
    found["val_acc_of_lowest"] = results(log)["val_acc_by_epoch"][best]
    return {**found, "late_low": min(losses[6:]), "late_high": max(losses[6:])}


def lesson_here(course: Course, lesson: int, command: str, threads: int) -> Values:
    course.switch(lesson)
    start = time.monotonic()
    log = course.run(f"OMP_NUM_THREADS={threads} {command}", minutes=600)
    minutes = (time.monotonic() - start) / 60
    return {**results(log), "minutes": round(minutes, 2)}


def page(course: Course, lesson: int) -> Values:
    """Run the commands of a lesson's page before its challenges, with the sample."""
    course.start_cluster()
    start = time.monotonic()
    # what earlier measurements left there would be in the way
    course.run("git checkout --quiet . && rm -rf logs lightning_logs slurm.*.out")
    path = ROOT / f"docs/lessons/{lesson}.md"
    text = path.read_text().partition("\n## Challenge")[0]
    for block in run_docs.read_page(path):
        if block.line <= text.count("\n") and "no-run" not in block.words:
            course.reader.run(block)
    course.reader.wait_for_jobs()
    return {"minutes_up": rounded_up(time.monotonic() - start)}


def challenge_overfitting(course: Course) -> Values:
    """Train lesson 1's solution for 60 epochs."""
    course.switch(1)
    course.run("git apply docs/solutions/1-overfitting.patch")
    course.run("sed -i s/max_epochs=1000/max_epochs=60/ src/main.py")
    log = course.run("bash run.sh", minutes=10)
    best = overfitting(log)
    found = results(log)
    lowest = found["train_loss_by_epoch"][best["lowest_epoch"] - 1]
    losses = {"train_loss_of_lowest": lowest, "train_loss": found["train_loss"]}
    best = {name: best[name] for name in ("lowest_epoch", "lowest_val_loss")}
    return {**best, **losses, "val_loss": found["val_loss"]}


def challenge_learning_rate(course: Course) -> Values:
    """Train lesson 2 with its solution, in which the learning rate falls, and as it is."""
    course.switch(2)
    with course.solution("2-learning-rate"):
        falling = results(course.run("bash run.sh", minutes=5))
    constant = results(course.run("bash run.sh", minutes=5))
    found: Values = {}
    for name, run in (("falling", falling), ("constant", constant)):
        found |= {f"{name}_{value}": run[value] for value in ("val_loss", "best_val_acc")}
    return found


def challenge_workers(course: Course) -> Values:
    """Train lesson 3's solution with 0 and 2 workers; return the fastest epoch of each."""
    course.switch(3)
    course.run("git apply docs/solutions/3-measure-workers.patch")
    read = (
        "import sys; from tensorboard.backend.event_processing.event_accumulator import "
        "EventAccumulator as E; "
        "print('fastest', min(e.value for e in E(sys.argv[1]).Reload().Scalars('epoch_seconds')))"
    )
    found = {}
    for number in (0, 2):
        log = course.run(f"NUM_WORKERS={number} bash run.sh", minutes=10)
        folder = re.findall(r"^logs: (.+)$", log, re.MULTILINE)[-1]
        shown = course.run(f"python -c {shlex.quote(read)} {shlex.quote(folder)}")
        found[f"workers_{number}"] = round(number_of_last(shown, r"fastest ([\d.]+)"), 2)
    return found


def challenge_grid(course: Course) -> Values:
    """Train the best trial of lesson 4's grid; check.py compares it with the others."""
    course.switch(4)
    command = "python run.py --local --experiment_name=best --batch_size=32 --max_epochs=3"
    return {"val_acc": results(course.run(command, minutes=5))["val_acc"]}


def challenge_choices(course: Course) -> Values:
    """Train lesson 6's network on the images of its solution, and on CIFAR-10 as it is."""
    course.switch(6)
    with course.solution("6-four-choices"):
        plain = results(course.run("python run.py --local --dataset=plain", minutes=10))
        augmented = results(course.run("python run.py --local", minutes=10))
    losses = {"train_loss": plain["train_loss"], "val_loss": plain["val_loss"]}
    return {"plain_acc": plain["train_acc"], "augmented_acc": augmented["train_acc"], **losses}


def challenge_network(course: Course) -> Values:
    """Train the small network of lesson 7's solution."""
    course.switch(7)
    with course.solution("7-small-network"):
        command = "python run.py --local --arch=tiny --learning_rate=0.01"
        log = course.run(command, minutes=30)
    parameters = int(number_of_last(log, r"network: ([\d,]+) parameters"))
    return {"parameters": parameters, "test_acc": results(log)["test_acc"]}


def epoch_times(course: Course) -> Values:
    """Return the mean seconds of lesson 6's epochs without workers and with two."""
    course.switch(6)
    found: Values = {}
    for number in (0, 2):
        name = f"workers_{number}"
        log, _ = course.job(f"python run.py --num_workers={number} --experiment_name={name}", 10)
        found[name] = round(profiled(course, log, "run_training_epoch")[0], 2)
    return found


def profiled(course: Course, log: str, action: str) -> list[float]:
    """Return the numbers in the line of an action in the profiler's report of a run.

    Raises:
        MeasuredError: if there is no such line.
    """
    report = Path(course.folder, log.rpartition("logs: ")[2].strip(), "fit-profile.txt")
    row = re.search(rf"^\|  {action} .*", report.read_text(), re.MULTILINE)
    if not row:
        raise MeasuredError(f"{report} has no line for {action}")
    cells = [cell.strip(" %\t") for cell in row[0].split("|")[2:-1]]
    return [float(cell) if "." in cell else int(cell) for cell in cells if cell != "-"]


def profile(course: Course) -> Values:
    """Read the rows of the profiler's report that lesson 5 shows."""
    course.switch(5)
    log, _ = course.job("python run.py --experiment_name=metrics", minutes=10)
    shown = {
        "total": r"Total",
        "epoch": r"run_training_epoch",
        "next_batch": r"\[_TrainingEpochLoop\].train_dataloader_next",
        "batch": r"run_training_batch",
        "optimizer": r"\[LightningModule\]Classifier.optimizer_step",
        "plots": r"\[Callback\]TensorBoardPlots.on_validation_end",
    }
    found: Values = {name: profiled(course, log, action) for name, action in shown.items()}
    found["next_batch_ms"] = round(1000 * found["next_batch"][0], 1)
    return {**found, "batch_ms": round(1000 * found["batch"][0], 1)}


def sample_memory(course: Course) -> Values:
    course.switch(6)
    return {"gb": course.peak_gb(ONE_EPOCH)}


def upside_down(course: Course) -> Values:
    """Train lesson 6's solution, as its page shows it, and MNIST as it is."""
    course.switch(6)
    text = (ROOT / "docs/lessons/6.md").read_text().partition("<details>")[2]
    [code] = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    file = course.folder / "src/datasets/upside_down.py"
    file.write_text(code)
    try:
        logs = {
            name: course.run(f"python run.py --local --dataset={name}")
            for name in ("upside_down", "mnist")
        }
    finally:
        file.unlink()
    return {f"{name}_acc": results(log)["test_acc"] for name, log in logs.items()}


def seeds(course: Course) -> Values:
    """Train the experiment that lesson 10's page writes, with three seeds."""
    course.switch(10)
    text = (ROOT / "docs/lessons/10.md").read_text()
    [written] = re.findall(
        r"^cat > (configs/\S+) <<'END'\n(.*?)^END$", text, re.MULTILINE | re.DOTALL
    )
    file = course.folder / written[0]
    file.write_text(written[1])
    try:
        logs = [course.run(f"{LOCAL} experiment=mine seed={seed}") for seed in (1, 2, 1234)]
    finally:
        file.unlink()
    found = [results(log)["test_acc"] for log in logs]
    return {"lowest": min(found), "highest": max(found)}


def networks(course: Course) -> Values:
    """Compare ResNet-18 with the fully connected network on the sample."""
    course.switch(7)
    log, _ = course.job("python run.py", minutes=20)
    other, _ = course.job("python run.py --arch=fully_connected", minutes=10)
    parameters = number_of_last(log, r"network: ([\d,]+) parameters")
    found = {"parameters_m": round(parameters / 1e6, 1), "gb": course.peak_gb(ONE_EPOCH)}
    accuracies = {"resnet_acc": results(log)["test_acc"], "fc_acc": results(other)["test_acc"]}
    return {**accuracies, **found}


def overfit(course: Course) -> Values:
    course.switch(8)
    command = "python run.py --local --overfit_batches=2 --max_epochs=40"
    losses = results(course.run(command, minutes=20))["train_loss_by_epoch"]
    return {f"loss_{epoch}": losses[epoch - 1] for epoch in (10, 20, 40)}


def processes(course: Course) -> Values:
    """Train lesson 8 on the sample with one process and with four."""
    course.switch(8)
    one, _ = course.job("python run.py", minutes=20)
    four, _ = course.job("python run.py --num_nodes=2 --devices=2", minutes=20)
    found = {"one_acc": results(one)["test_acc"], "four_acc": results(four)["test_acc"]}
    return {**found, "process_gb": course.peak_gb(ONE_EPOCH)}


def cluster(course: Course) -> Values:
    """Time the starts of a practice cluster, and run the first job of its page."""
    course.start_cluster()
    again = f"--state={course.reader.home}/second"
    first = course.run(f"cluster/practice up {again} && cluster/practice down {again}")
    later = course.run(f"cluster/practice up {again} && cluster/practice down {again}")
    seconds = [number_of_last(text, r"up after ([\d.]+) s") for text in (first, later)]
    text = (ROOT / CLUSTER_PAGE).read_text()
    [command] = re.findall(r"^(sbatch .*--job-name=hello.*\\\n.*)", text, re.MULTILINE)
    _, used = course.job(f"{command.replace('hello.out', 'slurm.%j.out')}", minutes=2)
    return {"first_start": round(seconds[0]), "later_start": round(seconds[1]), **used}


def imports(course: Course) -> Values:
    """Count the files that the imports open, and their calls of the stat family."""
    if not shutil.which("strace"):
        raise MeasuredError("strace is missing: install it (Debian: apt-get install strace).")
    calls = "open,openat,stat,lstat,newfstatat,statx"
    program = "python -c 'import torch, torchvision, lightning'"
    table = course.run(f"strace -f -c -o calls.txt -e trace={calls} {program}; cat calls.txt", 10)
    # % time, seconds, usecs/call, calls, errors if any, name
    rows = [
        line.split() for line in table.splitlines() if re.search(r"(open|openat|stat\w*)$", line)
    ]
    opened = sum(
        int(row[3]) - int(row[4] if len(row) == 6 else 0) for row in rows if "open" in row[-1]
    )
    stats = sum(int(row[3]) for row in rows if "stat" in row[-1])
    return {"opened": rounded(opened, 2), "stats": rounded(stats, 2)}


def workers(course: Course) -> Values:
    """Return one row of lesson 3's table for each number of threads and workers."""
    course.run("git switch --quiet main")
    start = time.monotonic()
    found = course.run("python benchmarks/workers.py", minutes=60)
    minutes = (time.monotonic() - start) / 60
    rows = re.findall(r"^ +(\d+) +(\d+) +([\d.]+) +(\d+) +([\d.]+)$", found, re.MULTILINE)
    values: Values = {"minutes": round(minutes, 1)}
    for threads, processes, seconds, rate, ratio in rows:
        values[f"threads_{threads}_workers_{processes}"] = [float(seconds), int(rate), float(ratio)]
    return values


def loading(course: Course) -> Values:
    course.run("git switch --quiet main")
    found = course.run('python benchmarks/loading.py "$DATA_DIR"', minutes=20)
    rows = {
        "memory": "in memory, 0",
        "single": "single images, 0",
        "two_workers": "single images, 2",
    }
    rates = {name: number_of_last(found, rf"{row} workers +(\d+)") for name, row in rows.items()}
    values: Values = {name: rounded(rate) for name, rate in rates.items()}
    return {**values, "ratio": rounded(rates["memory"] / rates["single"], 2)}


def scaling(course: Course) -> Values:
    course.run("git switch --quiet main")
    found = course.run('python benchmarks/scaling.py --data_dir="$DATA_DIR"', minutes=20)
    rows = re.findall(r"^ +1 +(\d) +(\d+) +([\d.]+)$", found, re.MULTILINE)
    (_, one, _), (_, two, efficiency) = rows
    return {"one": int(one), "two": int(two), "efficiency": float(efficiency)}


# --- the list


@dataclass(frozen=True)
class Measurement:
    """What a measurement runs. Its `minutes` are a rough estimate, for whoever waits."""

    minutes: float
    data: str
    command: str
    run: Callable[..., Values] | None  # None: made by hand
    only_if_named: bool = False

    @property
    def full_set(self) -> str | None:
        """The name of the full data set that it needs, or None."""
        kind, _, name = self.data.partition(" ")
        return name if kind == "full" else None


def job_of(lesson: int, command: str, minutes: float) -> Measurement:
    run = partial(lesson_job, lesson=lesson, command=command)
    return Measurement(minutes, "full MNIST", f"{command} (lesson {lesson})", run)


def page_of(lesson: int, minutes: float) -> Measurement:
    command = f"the commands of docs/lessons/{lesson}.md"
    return Measurement(minutes, "sample", command, partial(page, lesson=lesson))


def by_hand(command: str, data: str = "none") -> Measurement:
    return Measurement(0, data, command, None)


LOCAL = "python run.py --local"
MEASUREMENTS = {
    "lesson-1": job_of(1, "sbatch run.sh", 1.5),
    "lesson-2": job_of(2, "sbatch run.sh", 2),
    "lesson-3": job_of(3, "sbatch run.sh", 2),
    "lesson-4": job_of(4, "python run.py", 2),
    "lesson-5": job_of(5, "python run.py", 2),
    "lesson-6": Measurement(
        1.5,
        "full CIFAR-10",
        f"{LOCAL} (lesson 6)",
        partial(lesson_here, lesson=6, command=LOCAL, threads=1),
    ),
    "lesson-7": Measurement(
        35,
        "full CIFAR-10",
        f"{LOCAL} --devices=1 (lesson 8)",
        partial(lesson_here, lesson=8, command=f"{LOCAL} --devices=1", threads=2),
        only_if_named=True,
    ),
    "lesson-1-page": page_of(1, 0.5),
    "lesson-2-page": page_of(2, 0.5),
    "lesson-3-page": page_of(3, 1),
    "lesson-4-page": page_of(4, 2),
    "lesson-5-page": page_of(5, 1.5),
    "lesson-6-page": page_of(6, 1.5),
    "lesson-7-page": page_of(7, 3),
    "lesson-8-page": page_of(8, 4),
    "lesson-1-overfitting": Measurement(
        1, "sample", "bash run.sh, with docs/solutions/1-overfitting.patch", challenge_overfitting
    ),
    "lesson-2-learning-rate": Measurement(
        1,
        "sample",
        "bash run.sh, with and without docs/solutions/2-learning-rate.patch",
        challenge_learning_rate,
    ),
    "lesson-3-workers": Measurement(
        1, "sample", "bash run.sh, with docs/solutions/3-measure-workers.patch", challenge_workers
    ),
    "lesson-4-grid": Measurement(
        0.5, "sample", f"{LOCAL} --batch_size=32 --max_epochs=3 (lesson 4)", challenge_grid
    ),
    "lesson-5-profile": Measurement(
        0.5, "sample", "python run.py --experiment_name=metrics (lesson 5)", profile
    ),
    "lesson-6-workers": Measurement(
        0.5, "sample", "python run.py, and --num_workers=2 (lesson 6)", epoch_times
    ),
    "lesson-6-choices": Measurement(
        0.5,
        "sample",
        f"{LOCAL} --dataset=plain, and --dataset=cifar10 (lesson 6)",
        challenge_choices,
    ),
    "lesson-6-choices-full": Measurement(
        3,
        "full CIFAR-10",
        f"{LOCAL} --dataset=plain, and --dataset=cifar10 (lesson 6)",
        challenge_choices,
    ),
    "lesson-10-seeds": Measurement(
        0.5, "sample", f"{LOCAL} experiment=mine, with the seeds 1, 2 and 1234 (lesson 10)", seeds
    ),
    "lesson-7-small": Measurement(
        0.5, "sample", f"{LOCAL} --arch=tiny --learning_rate=0.01 (lesson 7)", challenge_network
    ),
    "lesson-7-small-full": Measurement(
        15,
        "full CIFAR-10",
        f"{LOCAL} --arch=tiny --learning_rate=0.01 (lesson 7)",
        challenge_network,
        only_if_named=True,
    ),
    "lesson-6-memory": Measurement(0.5, "sample", f"{ONE_EPOCH} (lesson 6)", sample_memory),
    "lesson-6-solution": Measurement(
        1, "sample", f"{LOCAL} --dataset=upside_down, and --dataset=mnist (lesson 6)", upside_down
    ),
    "lesson-7-networks": Measurement(
        2, "sample", "python run.py, and --arch=fully_connected (lesson 7)", networks
    ),
    "lesson-7-overfit": Measurement(
        1, "sample", f"{LOCAL} --overfit_batches=2 --max_epochs=40 (lesson 8)", overfit
    ),
    "lesson-8-processes": Measurement(
        4, "sample", "python run.py, and --num_nodes=2 --devices=2 (lesson 8)", processes
    ),
    "workers": Measurement(4, "full MNIST", "python benchmarks/workers.py", workers),
    "loading": Measurement(1, "full CIFAR-10", "python benchmarks/loading.py DATA", loading),
    "scaling": Measurement(
        2, "full CIFAR-10", "python benchmarks/scaling.py --data_dir DATA", scaling
    ),
    "practice-cluster": Measurement(
        1.5, "none", "cluster/practice up, and the job of docs/practice-cluster.md", cluster
    ),
    "imports": Measurement(
        0.5, "none", "strace -f python -c 'import torch, torchvision, lightning'", imports
    ),
    "setup": by_hand("make setup, several times with INSTALLER=uv and with pip; du -s env"),
    "mlflow": by_hand(
        "du -s of an environment before and after pip install -r requirements-mlflow.txt"
    ),
    "image": by_hand("time apptainer build image.sif cluster/apptainer.def; time the imports"),
    "lesson-8-repeated": by_hand(
        "python run.py --num_nodes=2 --devices=2, and --local --devices=2, again (lesson 8)"
    ),
    "process-group": by_hand("lesson 8 on two nodes, without close_process_group"),
    "mixed-precision": by_hand(
        "python run.py --local --accelerator=gpu --batch_size=512, with --precision and --arch"
    ),
    "networks-picture": by_hand(
        "the trainings of docs/reference-logs (lessons 6 and 7)", "full CIFAR-10"
    ),
}


def check_full_set(name: str, data_dir: Path) -> None:
    """Refuse the sample where the numbers are those of the full set.

    Raises:
        MeasuredError: if the data are the sample.
        SystemExit: if they are missing or damaged.
    """
    folder = data_dir / FOLDERS[name]
    if ", sample: " in check_data(folder):
        raise MeasuredError(f"{folder} is the sample, not the full {name}; {remedy(folder)}")


def machine() -> Values:
    return {"machine": processor(), "cpus": num_cpus()}
