"""Check whether this site can run the course: make preflight, on a login node of the cluster.

It reads site.sh, asks Slurm whether it would accept the jobs of the lessons, and runs a small job
on two nodes. Each failed row comes with its remedy; the file preflight-report.txt is for the help
desk. The exit code is 0 if no row fails, 1 otherwise. Only the standard library is used.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType

from site_checks import lesson_jobs, training
from site_checks.judge import ROWS as PROBE_ROWS
from site_checks.judge import judge
from site_checks.lesson_jobs import check_lesson_jobs, export_lessons
from site_checks.login_node import ROWS as LOGIN_ROWS
from site_checks.login_node import check_branches, check_python, check_tools
from site_checks.probe import Probe
from site_checks.report import FAIL, PASS, Report
from site_checks.site_file import check_settings, check_site
from site_checks.slurm import ROWS as SLURM_ROWS
from site_checks.slurm import check_slurm

ROOT = Path(__file__).resolve().parents[1]
WAIT = 600  # seconds
ROWS = ["this folder", *LOGIN_ROWS, *SLURM_ROWS, *lesson_jobs.ROWS, *PROBE_ROWS]
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def stop(number: int, frame: FrameType | None) -> None:
    """End the program; further signals must not disturb it while it cleans up."""
    ignore_signals()
    raise KeyboardInterrupt


def ignore_signals() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def stop_at_signals() -> None:
    for number in SIGNALS:
        signal.signal(number, stop)


def check_everything(report: Report, args: argparse.Namespace, folder: Path) -> None:
    """Add the rows, up to one without which the others make no sense."""
    check_tools(report, os.environ.get("PATH", ""))
    check_branches(report)
    site = check_site(report)
    if site is None:
        return
    check_settings(report, site)
    python = check_python(report, site)
    partition = check_slurm(report, site, folder)
    if partition is None:
        return
    trees = export_lessons(report, folder)
    check_lesson_jobs(report, site, partition, trees, python)
    probe = Probe(report, site, folder)
    try:
        judge(report, site, partition, probe.run(args.wait, partition.usable))
    finally:
        without_interrupts(probe.cancel)
    if args.full:
        training.check_training(report, site, trees, python, args.wait)


def without_interrupts(clean_up: Callable[[], None]) -> None:
    """Clean up, also if Ctrl-C is pressed."""
    before = [signal.signal(number, signal.SIG_IGN) for number in SIGNALS]
    try:
        clean_up()
    finally:
        for number, handler in zip(SIGNALS, before):
            signal.signal(number, handler)


def make_folder(report: Report) -> Path | None:
    """Create the folder for the probe, which the compute nodes must see."""
    try:
        report.had_logs = Path("logs").exists()
        Path("logs").mkdir(exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="preflight-", dir="logs"))
    except OSError as error:
        cure = "clone the course into a folder of your own, and run make preflight there"
        found = f"{ROOT}/logs cannot be written to ({error.strerror})"
        report.add("this folder", FAIL, found, cure)
        return None
    report.add("this folder", PASS, f"{ROOT} can be written to")
    return folder


def remove_folder(report: Report, folder: Path) -> None:
    """Remove what the jobs have written, but not the log of a training that has failed."""
    failed = [row.name for row in report.rows if row.state == FAIL]
    if training.ROW in failed:
        print(f"the files of the training are kept: remove the folder {folder} when you are done")
    else:
        shutil.rmtree(folder, ignore_errors=True)
        if not report.had_logs:
            with suppress(OSError):  # something else may have written there meanwhile
                folder.parent.rmdir()


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--full", action="store_true", help="also train on two nodes, as in lesson 8"
    )
    parser.add_argument(
        "--wait",
        default=str(WAIT),
        metavar="SECONDS",
        help="longest time that a job may wait in the queue, in seconds (default: %(default)s)",
    )
    args = parser.parse_args()
    if not re.fullmatch("[0-9]{1,9}", args.wait):
        shown = repr(args.wait if len(args.wait) < 50 else f"{args.wait[:50]}...")
        print(
            f"WAIT is {shown}, but must be a whole number of seconds from 0 to 999999999:"
            " make preflight WAIT=3600, or --wait 3600",
            file=sys.stderr,
        )
        sys.exit(2)
    args.wait = int(args.wait)
    return args


def main() -> int:
    args = parse_args()
    os.chdir(ROOT)
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    stop_at_signals()
    report, folder, code = Report(ROOT, keep=True), None, 0
    try:
        folder = make_folder(report)
        if folder:
            check_everything(report, args, folder)
        report.skip(ROWS, "needs the row that failed above")
    except BrokenPipeError:
        # the reader of the output has ended, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except KeyboardInterrupt:
        report.show_progress("")
        report.interrupted = True
        report.skip(ROWS, "interrupted")
        print(report.interruption())
        code = 130
    finally:
        ignore_signals()
        if folder:
            remove_folder(report, folder)
        path = report.write()
    for line in report.remedies():
        print(line)
    failed = any(row.state == FAIL for row in report.rows)
    print(f"report for the help desk: {path}" if path else "the report could not be written")
    print(report.verdict())
    return code or int(failed)


if __name__ == "__main__":
    sys.exit(main())
