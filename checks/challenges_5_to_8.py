"""The checks of the challenges of lessons 5 to 8: see challenges.py."""

import csv
import re
import sqlite3
import struct

from checks.runs import (
    UNFINISHED,
    Wrong,
    event_values,
    fields,
    has_ended,
    learns,
    number_of,
    path_of,
    run_of,
    runs_by_run_py,
)

# lowest test accuracy of a network that has learned: with the full data, with the sample
DIGITS, SMALL = (0.95, 0.85), (0.6, 0.5)
# of the challenge of lesson 7: highest number of parameters, highest loss on two batches
MAX_PARAMETERS, OVERFITTED = 100_000, 0.2
# lowest training accuracy of a network that sees the same images in each epoch, after ten epochs
MEMORISED = (0.55, 0.6)


def runs_with(**settings):
    """Return the runs with these settings, newest first."""
    wanted = settings.items()
    return [run for run in runs_by_run_py() if all(run.settings.get(k) == v for k, v in wanted)]


def summary_values(run, tag):
    """Yield what TensorBoard has stored under a tag, as protocol buffers, in the order of time."""
    for file in sorted(run.folder.glob("events.out.tfevents.*")):
        data, place = file.read_bytes(), 0
        while place + 12 <= len(data):
            (length,) = struct.unpack_from("<Q", data, place)
            event = data[place + 12 : place + 12 + length]
            values = [value for summary in fields(event, 5) for value in fields(summary, 1)]
            yield from (value for value in values if tag.encode() in fields(value, 1))
            place += 16 + length


# --- lesson 5


def console():
    checks = [has_ended, has_notes, has_no_errors]
    how = "python run.py --experiment_name=console --max_epochs=2"
    run = run_of(5, runs_with(experiment_name="console"), checks, how)
    return [(check, run) for check in checks]


NOTE = "`Trainer.fit` stopped"  # Lightning's last note on a training


def has_notes(run):
    """Lightning's notes are in the .out file, in the format of the other lines."""
    if not run.log:
        found = f"{run.name} was not a job, so it has no log file"
        raise Wrong(found, "a job", "use a cluster, or the practice cluster: cluster/practice up")
    lines = [line for line in run.text.splitlines() if NOTE in line]
    if not lines:
        others = path_of(run.errors) if NOTE in read(run.errors) else "neither log file"
        advice = "remove the handlers of Lightning's loggers, and lower their level"
        raise Wrong(f'"{NOTE}" is in {others}', f"the note in {path_of(run.log)}", advice)
    if not re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO ", lines[-1]):
        advice = "let Lightning's loggers pass their lines on to the handler of log_to_stdout"
        raise Wrong(f"the line {lines[-1][:60]}", f"<time> INFO {NOTE} ...", advice)


def has_no_errors(run):
    """The .err file is empty."""
    if lines := read(run.errors).splitlines():
        count = number_of(len(lines), "line")
        found = f'{count} in {path_of(run.errors)}, the first is "{lines[0][:60]}"'
        raise Wrong(found, "an empty file", "find the handler that writes them to standard error")


def read(path):
    return path.read_text(errors="replace") if path and path.is_file() else ""


def mlflow():
    checks = [has_ended, is_in_mlflow, has_same_curves, has_settings]
    how = "python run.py --experiment_name=mlflow --max_epochs=3"
    run = run_of(5, runs_with(experiment_name="mlflow"), checks, how)
    return [(check, run) for check in checks]


def mlflow_rows(run, query):
    """Return the rows of a query to MLflow's database, which stays as it is."""
    file = run.folder.parents[1] / "mlflow.db"
    if not file.is_file():
        where = file.parent.name
        advice = f"MLFlowLogger(..., tracking_uri=f'sqlite:///{{hparams.log_path}}/{file.name}')"
        raise Wrong(f"no {file.name} in {where}", f"{where}/{file.name}", advice)
    try:
        with sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True) as database:
            return database.execute(query).fetchall()
    except sqlite3.Error as error:
        raise Wrong(
            f"{file.name}: {error}", "a database of MLflow", "delete it, and train again"
        ) from None


def curves_in_mlflow(run):
    """Return run id -> {metric: values in the order of their steps}, of this experiment."""
    query = (
        "SELECT run_uuid, key, value FROM metrics NATURAL JOIN runs"
        " JOIN experiments USING (experiment_id)"
        f" WHERE experiments.name = '{run.folder.parent.name}' ORDER BY step"
    )
    curves = {}
    for run_id, key, value in mlflow_rows(run, query):
        curves.setdefault(run_id, {}).setdefault(key, []).append(value)
    return curves


def is_in_mlflow(run):
    """MLflow has curves of the experiment."""
    if not curves_in_mlflow(run):
        found = f"no metrics of an experiment {run.folder.parent.name} in mlflow.db"
        raise Wrong(found, "those of the run", "give the Trainer a list of both loggers")


def has_same_curves(run):
    """MLflow and TensorBoard show the same curves."""
    tags = ("train_loss", "train_acc", "val_loss", "val_acc")
    shown = {tag: run.values(tag) for tag in tags}
    if None in shown.values():
        advice = "keep TensorBoardLogger as the first of the loggers"
        raise Wrong(f"no curves for TensorBoard in {run.name}", ", ".join(tags), advice)
    for curves in curves_in_mlflow(run).values():
        if all(are_close(curves.get(tag, []), shown[tag]) for tag in tags):
            return
    found = f"no run in MLflow has the curves of {run.name}"
    raise Wrong(found, "the same numbers in both", "train again, with both loggers")


def are_close(first, second):
    pairs = zip(first, second, strict=False)
    return len(first) == len(second) and all(abs(a - b) < 1e-5 for a, b in pairs)


def has_settings(run):
    """MLflow knows the settings of the run."""
    rows = mlflow_rows(run, "SELECT value FROM params WHERE key = 'learning_rate'")
    if not rows:
        advice = "call save_hyperparameters in main: it passes them to all loggers"
        raise Wrong("no learning_rate in mlflow.db", "the settings of the run", advice)


def pr_curve():
    checks = [has_ended, has_table, is_consistent, agrees_with_tensorboard]
    how = "python run.py --experiment_name=curve --max_epochs=3"
    run = run_of(5, runs_with(experiment_name="curve"), checks, how)
    return [(check, run) for check in checks]


COLUMNS = ["threshold", "tp", "fp", "fn", "precision", "recall"]
WRITE = "write it in draw_pr_curves, in src/callbacks/tensorboard.py"


def rows_of(run):
    with (run.folder / "pr_curve.csv").open(newline="") as file:
        return [[float(cell) for cell in row] for row in list(csv.reader(file))[1:]]


def has_table(run):
    """The run's folder has a table with nine thresholds."""
    lines = read(run.folder / "pr_curve.csv").splitlines()
    if not lines:
        raise Wrong(f"no pr_curve.csv in {run.name}", f"columns {','.join(COLUMNS)}", WRITE)
    if lines[0].split(",") != COLUMNS:
        raise Wrong(f"columns {lines[0]}", ",".join(COLUMNS), WRITE)
    try:
        thresholds = [row[0] for row in rows_of(run) if len(row) == len(COLUMNS)]
    except ValueError as error:
        raise Wrong(f"pr_curve.csv: {error}", "numbers", WRITE) from None
    if not are_close(thresholds, [k / 10 for k in range(1, 10)]):
        raise Wrong(f"thresholds {thresholds}", "0.1, 0.2, ... 0.9, one per line", WRITE)


def is_consistent(run):
    """Precision and recall follow from the counts."""
    for threshold, tp, fp, fn, precision, recall in rows_of(run):
        for name, value, others in (("precision", precision, fp), ("recall", recall, fn)):
            if tp + others and abs(value - tp / (tp + others)) > 0.001:
                found = (
                    f"{name} {value} at threshold {threshold}, with tp {tp:g}, fp {fp:g}, fn {fn:g}"
                )
                advice = "precision is tp / (tp + fp), recall is tp / (tp + fn)"
                raise Wrong(found, f"{tp / (tp + others):.4f}", advice)


def agrees_with_tensorboard(run):
    """The counts are those of TensorBoard's curve of the digit 4."""
    curves = tensor_rows(run, "pr_curve/4 - four")
    if not curves:
        raise Wrong(f"no PR curve in {run.name}", "pr_curve/4 - four", "train without --no-plots")
    for threshold, *counts in rows_of(run):
        # TensorBoard has points at 0/126, 1/126, ...: these two are beside the threshold
        below = int(threshold * 126)
        for name, found, row in zip(("tp", "fp", "fn"), counts, (0, 1, 3), strict=False):
            low, high = sorted(curves[-1][row][below : below + 2])
            if not low <= found <= high:
                expected = f"{low:g}" if low == high else f"{low:g} to {high:g}"
                raise Wrong(
                    f"{name} {found:g} at threshold {threshold}",
                    f"{expected}, as in TensorBoard's curve of the last epoch",
                    "count the images whose probability of a 4 is at least the threshold",
                )


def tensor_rows(run, tag):
    """Return the PR curves under a tag: rows tp, fp, tn, fn, precision, recall, of 127 points."""
    curves = []
    for value in summary_values(run, tag):
        for tensor in fields(value, 8):
            data = b"".join(fields(tensor, 5))
            numbers = struct.unpack(f"<{len(data) // 4}f", data)
            curves.append([numbers[k : k + 127] for k in range(0, len(numbers), 127)])
    return curves


# --- lesson 6


def upside_down():
    checks = [has_ended, learns(DIGITS), differs_from_mnist]
    how = "python run.py --dataset=upside_down"
    run = run_of(6, runs_with(dataset="upside_down"), checks, how, dataset="upside_down")
    return [(check, run) for check in checks]


def differs_from_mnist(run):
    """The images are not those of MNIST as they are."""
    losses = [(other.done or {}).get("test_loss") for other in runs_with(dataset="mnist")]
    if (loss := run.done.get("test_loss")) and loss in losses:
        found = f"test loss {loss:.4f}, exactly as with --dataset=mnist"
        raise Wrong(found, "other images", "turn them in read, in src/datasets/upside_down.py")


def four_choices():
    checks = [has_ended, has_split, has_mean_and_std, has_no_augmentation, has_checked_files]
    how = "python run.py --dataset=plain"
    run = run_of(6, runs_with(dataset="plain"), checks, how, dataset="plain")
    return [(check, run) for check in checks]


def has_split(run):
    """A fifth of the images is for validation."""
    curves = tensor_rows(run, "pr_curve/cat")
    if not curves:
        raise Wrong(f"no PR curve in {run.name}", "pr_curve/cat", "train without --no-plots")
    validation = sum(row[0] for row in curves[-1][:4])
    epochs, size = (int(run.settings[name]) for name in ("max_epochs", "batch_size"))
    training = run.done["steps"] / epochs * size  # up to the last batch, which may be smaller
    if not 0.18 <= validation / (validation + training) <= 0.22:
        found = f"{validation:g} for validation, at most {training:g} for training in {run.name}"
        raise Wrong(found, "a ratio of 1 to 4", "pass val_split to the base class's constructor")


def has_mean_and_std(run):
    """The images are normalised with mean 0.5 and standard deviation 0.25."""
    found = {name: numbers_of(run, name) for name in ("mean", "std")}
    expected = {"mean": [0.5] * 3, "std": [0.25] * 3}
    if found != expected:
        advice = "set mean and std in the class, one number per colour channel"
        raise Wrong(f"{found} in hparams.yaml", str(expected), advice)


def numbers_of(run, name):
    """Return a list of numbers in the run's hparams.yaml."""
    text = read(run.folder / "hparams.yaml")
    match = re.search(rf"^{name}:\n((?:- .*\n)*)", text, re.MULTILINE)
    return [float(number) for number in re.findall(r"- (\S+)", match[1])] if match else []


def has_no_augmentation(run):
    """The network sees the same training images in every epoch, and learns them by heart."""
    sample = "sample" in run.text or run.done["steps"] < 1000
    accuracy = (run.values("train_acc") or [0])[-1]
    if accuracy < MEMORISED[sample]:
        found = f"training accuracy {accuracy:.4f} in {run.name}"
        advice = "switch off shift and mirror; train ten epochs"
        raise Wrong(found, f"at least {MEMORISED[sample]}", advice)


def has_checked_files(run):
    """The files are compared with their SHA-256 sums before the training."""
    if run.text and not re.search(r"data: .* files checked in ", run.text):
        advice = "leave prepare_data to the base class, or call it"
        raise Wrong(
            f"no line on the files in {path_of(run.log)}", "data: ... files checked", advice
        )


# --- lesson 7


def small_network():
    runs = [run for run in runs_by_run_py() if run.lesson == 7 and is_own_network(run)]
    how = "python run.py --arch=NAME --overfit_batches=2 --max_epochs=40 --experiment_name=overfit"
    checks = [has_ended, has_overfitted]
    short = [run for run in runs if "overfit_batches" in switches(run)]
    overfit = run_of(7, short, checks, how, experiment="overfit")
    name = overfit.settings["arch"]
    how = f"python run.py --arch={name} --experiment_name=small"
    full_checks = [has_ended, is_small, learns(SMALL)]
    long = [run for run in runs if not switches(run)]
    full = run_of(7, long, full_checks, how, experiment="small", arch=name)
    return [*((check, overfit) for check in checks), *((check, full) for check in full_checks)]


def is_own_network(run):
    return not run.settings.get("arch", "resnet").startswith(("resnet", "fully_connected"))


def switches(run):
    """Return name -> value of the debugging switches of a run."""
    match = re.search(
        r"^debugging:\n((?:  .*\n)*)", read(run.folder / "hparams.yaml"), re.MULTILINE
    )
    return dict(re.findall(r"^  (\w+): (\S+)$", match[1], re.MULTILINE)) if match else {}


def has_overfitted(run):
    """The network can learn two batches by heart."""
    loss = (run.values("train_loss") or [float("nan")])[-1]
    if not loss < OVERFITTED:
        found = f"training loss {loss:.4f} after {run.settings['max_epochs']} epochs in {run.name}"
        advice = "raise --max_epochs or --learning_rate; if that does not help, look for a mistake"
        raise Wrong(found, f"less than {OVERFITTED}", advice)


def is_small(run):
    """The network has fewer than 100,000 parameters."""
    tags = [tag for tag in tags_of(run) if tag.startswith("weights/")]
    if not tags:
        raise Wrong(f"no histograms in {run.name}", "weights/...", "train without --no-plots")
    count = round(sum(sum(buckets(histograms(run, tag)[-1])) for tag in tags))
    if count >= MAX_PARAMETERS:
        advice = "fewer channels, or a mean over the pixels before the last layer"
        raise Wrong(f"{count:,} parameters in {run.name}", f"fewer than {MAX_PARAMETERS:,}", advice)


def tags_of(run):
    files = run.folder.glob("events.out.tfevents.*")
    return sorted({tag for file in files for tag in event_values(file)})


def histograms(run, tag):
    """Return the histograms under a tag, as protocol buffers, one per epoch."""
    values = summary_values(run, tag)
    return [histogram for value in values for histogram in fields(value, 5)]


def buckets(histogram):
    """Return how many weights are in each bucket of a histogram."""
    data = b"".join(fields(histogram, 7))
    return struct.unpack(f"<{len(data) // 8}d", data)


def last_layer():
    checks = [has_ended, keeps_pretrained_layers, trains_last_layer]
    how = "python run.py --weights=DEFAULT --max_epochs=2 --experiment_name=last_layer"
    runs = runs_with(weights="DEFAULT")
    run = run_of(7, runs, checks, how, experiment="last_layer", weights="DEFAULT")
    return [(check, run) for check in checks]


def keeps_pretrained_layers(run):
    """The pretrained layers stay as they are."""
    for name in ("conv1.weight", "layer4.1.conv2.weight"):
        shown = histograms(run, f"weights/network.{name}")
        if len(shown) < 2:
            found = f"{len(shown)} histograms of {name} in {run.name}"
            raise Wrong(found, "two or more", "train two epochs, without --no-plots")
        if shown[0] != shown[-1]:
            advice = "set requires_grad of these parameters to False, after load_weights"
            raise Wrong(f"{name} changes in {run.name}", "the same weights in all epochs", advice)


def trains_last_layer(run):
    """The last layer learns."""
    shown = histograms(run, "weights/network.fc.weight")
    if not shown or shown[0] == shown[-1]:
        found = f"fc.weight does not change in {run.name}"
        raise Wrong(found, "other weights after each epoch", "leave requires_grad of fc at True")


# --- lesson 8


def accumulate():
    how = "python run.py --num_nodes=2 --devices=2 --dataset=mnist --arch=fully_connected"
    how += " --experiment_name=accumulate"
    runs = runs_with(experiment_name="accumulate", dataset="mnist", arch="fully_connected")
    four = run_of(8, [run for run in runs if processes_of(run) == 4], [has_ended], how)
    has_ended(four)  # before the other run is missed
    checks = [has_ended, has_share_of(four), has_steps_of(four), has_losses_of(four)]
    how = how.replace("--num_nodes=2 ", "")
    two = run_of(8, [run for run in runs if processes_of(run) == 2], checks, how)
    return [(has_ended, four), *((check, two) for check in checks)]


def has_share_of(four):
    def check(two):
        """Two processes get as many images at a time as four."""
        shares = [int(run.settings["batch_size"]) / processes_of(run) for run in (two, four)]
        if shares[0] != shares[1]:
            found = f"{shares[0]:g} images per process in {two.name}, {shares[1]:g} in {four.name}"
            advice = f"train with --devices=2 --batch_size={2 * shares[1]:g}"
            raise Wrong(found, "the same number", advice)

    return check


def has_steps_of(four):
    def check(two):
        """Two processes take as many optimizer steps as four."""
        if two.done["steps"] != four.done["steps"]:
            found = f"{two.done['steps']} steps in {two.name}, {four.done['steps']} in {four.name}"
            advice = "pass accumulate_grad_batches to the Trainer; use the same --max_epochs"
            raise Wrong(found, "the same number, with twice as many batches per step", advice)

    return check


def has_losses_of(four):
    def check(two):
        """Two processes reach the losses of four."""
        for tag in ("train_loss", "val_loss"):
            losses = [(run.values(tag) or [float("nan")])[-1] for run in (two, four)]
            if not abs(losses[0] - losses[1]) < 0.01:
                found = f"{tag} {losses[0]:.4f} in {two.name}, {losses[1]:.4f} in {four.name}"
                raise Wrong(found, "the same loss", "train both with the same settings")

    return check


def hang():
    checks = [has_hung, names_stuck_process]
    how = "git apply docs/solutions/8-hang.patch && python run.py --num_nodes=2 --devices=2"
    how += " --dataset=mnist --arch=fully_connected --timeout_min=1 --experiment_name=hang"
    run = run_of(8, runs_with(experiment_name="hang"), checks, how)
    return [(check, run) for check in checks]


def waiting_in(run):
    """Return the numbers of the processes that gave up waiting for another one."""
    lines = re.findall(
        r"^process (\d+): another process ended or did", read(run.errors), re.MULTILINE
    )
    return sorted(set(map(int, lines)))


def has_hung(run):
    """A job has hung, until the processes that waited gave up."""
    if run.state in UNFINISHED:
        advice = "wait until squeue --me no longer lists it; see --timeout_min"
        raise Wrong(f"job {run.job} is {run.state}", "a job that has ended", advice)
    if not waiting_in(run) or run.done:
        found = f"no process of {run.name} has given up waiting for another one"
        advice = "apply docs/solutions/8-hang.patch, and submit a job with --timeout_min=1"
        raise Wrong(
            found, 'lines such as "process 0: another process ..." in slurm_err_logs', advice
        )


def names_stuck_process(run):
    """You have found the process for which the others waited."""
    file = run.folder.parent / "stuck.txt"
    answer, waiting = read(file).strip(), waiting_in(run)
    others = [str(k) for k in range(processes_of(run)) if k not in waiting]
    if answer not in others:
        found = f"{answer!r} in logs/hang/stuck.txt" if file.is_file() else "no logs/hang/stuck.txt"
        advice = f"read {path_of(run.errors)}, and write the number to logs/hang/stuck.txt"
        raise Wrong(found, "the number of a process that did not wait for another one", advice)


def processes_of(run):
    nodes, devices = (int(run.settings.get(name, 1)) for name in ("num_nodes", "devices"))
    return nodes * devices


CHALLENGES = {
    5: {"console": console, "mlflow": mlflow, "pr-curve": pr_curve},
    6: {"upside-down": upside_down, "four-choices": four_choices},
    7: {"small-network": small_network, "last-layer": last_layer},
    8: {"accumulate": accumulate, "hang": hang},
}
