#!/usr/bin/env python3
"""Measure the numbers of the pages: make measure.

    make measure DATA_DIR=<folder>    # measure everything; needs the full MNIST and CIFAR-10
    make measure ONLY=lesson-2        # one measurement, or several: ONLY="lesson-1 lesson-2"
    make measure LIST=1               # the measurements, with their minutes, data and commands
    make measure CHECK=1              # only compare the pages with docs/measured.toml
    make measure INSERT=1             # only insert the numbers of docs/measured.toml

Each measurement runs commands of the course in a clone of the last commit, as tools/run_docs.py
does, and Slurm's numbers come from a practice cluster of its own. Its values are written to
docs/measured.toml with data, machine, versions and date, and inserted into the pages, as soon as it
has ended, so an interruption loses only the measurement that was running. Run it on a machine that
does nothing else. A number on a page that is not in docs/measured.toml fails tests/docs.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import measured
from measured import FILE, ROOT, MeasuredError
from run_docs import DocsError


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="make only these measurements")
    data_dir = Path(os.environ.get("DATA_DIR") or ROOT / "data")
    parser.add_argument("--data_dir", type=Path, default=data_dir, help="full MNIST and CIFAR-10")
    parser.add_argument("--venv", type=Path, default=ROOT / "env", help="Python environment")
    parser.add_argument("--list", action="store_true", help="list the measurements")
    parser.add_argument("--check", action="store_true", help="only compare pages and measurements")
    parser.add_argument("--insert", action="store_true", help="only insert numbers into the pages")
    return parser.parse_args()


def choose(only: list[str] | None) -> list[str]:
    """Return the names of the measurements to make.

    Raises:
        MeasuredError: if a name is not known, or cannot be measured by this program.
    """
    from measurements import MEASUREMENTS

    for name in only or []:
        if name not in MEASUREMENTS:
            raise MeasuredError(f"{name} is none of {', '.join(MEASUREMENTS)}")
        if not MEASUREMENTS[name].run:
            raise MeasuredError(
                f"{name} is measured by hand ({MEASUREMENTS[name].command}): write its values and "
                "its date into docs/measured.toml, then run make measure INSERT=1"
            )
    default = (name for name, one in MEASUREMENTS.items() if one.run and not one.only_if_named)
    return only or list(default)


def measure(names: list[str], data_dir: Path, venv: Path) -> None:
    """Make some measurements, and write each as soon as it has ended."""
    from course import Course
    from measurements import MEASUREMENTS, check_full_set, machine

    data = measured.load(FILE.read_text())
    # before the first measurement: these sentences should not come after an hour
    for full in sorted({MEASUREMENTS[name].full_set or "" for name in names} - {""}):
        check_full_set(full, data_dir)
    measured.insert_all(data, measured.pages())
    with contextlib.closing(Course(venv.absolute())) as course:
        for name in names:
            one = MEASUREMENTS[name]
            print(f"{name}: {one.command}, about {one.minutes:g} min", flush=True)
            course.use_data(data_dir.resolve() if one.full_set else None)
            run = cast(Callable[..., measured.Table], one.run)  # choose refuses those without
            values = run(course)
            found = {"command": one.command, "data": one.data, **machine()}
            found |= {"versions": course.versions(), "date": datetime.date.today()}
            record(name, {**found, "values": values})


def record(name: str, found: measured.Table) -> None:
    """Write a measurement, and insert it into the pages; its templates stay."""
    # somebody may have edited the file in the meantime
    data = measured.load(FILE.read_text())
    data[name] = {**found, "pages": data.get(name, {}).get("pages", [])}
    # the file first: it has the numbers even if a page has no place for them
    measured.write(FILE, measured.dump(data))
    insert(data)


def insert(data: measured.Table) -> None:
    new = measured.insert_all(data, measured.pages())
    for name, page in new.items():
        measured.write(ROOT / name, page)


def show_list() -> Iterator[str]:
    from measurements import MEASUREMENTS

    for name, one in MEASUREMENTS.items():
        how = "by hand" if not one.run else f"{one.minutes:g} min"
        how += ", only if named" if one.only_if_named else ""
        yield f"{name:18} {how:22} {one.data:14} {one.command}"
    total = sum(one.minutes for one in MEASUREMENTS.values() if not one.only_if_named)
    yield f"make measure takes about {total:.0f} minutes"


def main() -> None:
    args = parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        if args.list:
            print("\n".join(show_list()))
        elif args.check:
            found = measured.problems(measured.load(FILE.read_text()), measured.pages())
            if found:
                sys.exit("\n".join(found))
        elif args.insert:
            insert(measured.load(FILE.read_text()))
        else:
            measure(choose(args.only), args.data_dir, args.venv)
    except (MeasuredError, DocsError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
