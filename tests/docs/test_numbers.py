"""The measured numbers on the pages, against docs/measured.toml: make test-fast."""

import datetime
import re
from functools import cache

import course
import measure
import measured
import measurements
import pytest
from measured import MeasuredError

from clone import ROOT

DATA = measured.load((ROOT / "docs/measured.toml").read_text())
TEXTS = measured.pages()
PLACES = [
    (name, *place)
    for name, page in TEXTS.items()
    for place in measured.places_of_fields(name, page, DATA)
]
TODAY = datetime.date(2031, 2, 3)


def entry(text, page="page.md", **values):
    """Return a measurement that one page shows."""
    evidence = {"command": "sbatch run.sh", "data": "full MNIST", "machine": "AMD EPYC", "cpus": 2}
    evidence |= {"versions": {"torch": "2.14.1"}, "date": datetime.date(2030, 1, 1)}
    return {**evidence, "values": values, "pages": [{"page": page, "text": text}]}


@cache
def of_page(name):
    """Return the measurements with their templates of one page, which is faster to check."""
    return {
        key: {
            **entry,
            "pages": [template for template in entry["pages"] if template["page"] == name],
        }
        for key, entry in measured.measurements(DATA).items()
    }


# --- pages and file


def test_every_number_on_the_pages_has_a_source_and_agrees_with_it():
    assert measured.problems(DATA, TEXTS) == []


def test_a_changed_number_fails_wherever_it_is():
    assert len(PLACES) > 150
    for name, start, end in PLACES:
        page = TEXTS[name]
        other = re.sub(r"\d", lambda digit: str((int(digit[0]) + 1) % 10), page[start:end])
        other = other if other != page[start:end] else "another processor"
        changed = {**TEXTS, name: page[:start] + other + page[end:]}

        found = measured.disagreements(of_page(name), changed)

        assert found, f"{name}:{measured.line_of(page, start)}: {page[start:end]}"


def test_the_file_is_as_the_program_writes_it():
    assert measured.dump(DATA) == measured.FILE.read_text()


def test_every_measurement_is_in_the_file_with_its_evidence():
    found = measured.measurements(DATA)

    assert found.keys() == measurements.MEASUREMENTS.keys()
    for name, one in measurements.MEASUREMENTS.items():
        recorded = found[name]
        assert (recorded["command"], recorded["data"]) == (one.command, one.data)
        assert recorded["pages"], f"{name}: no page shows it"
        assert recorded["versions"]["torch"]
        assert isinstance(recorded["date"], datetime.date)
        assert one.minutes > 0 or not one.run


# --- a number without a source


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("The job takes about 12 minutes.", "12"),
        ("The job takes about twelve seconds.", "twelve"),
        ("It reaches 0.8123 on the test set.", "0.8123"),
        ("Loading takes 3 to 5 s.", "3"),
        ("It needs 37 MB more.", "37"),
        ("This is 4 times as fast.", "4"),
        ("Of the time, 12 % is left.", "12"),
        ("It loads 1,234 of them.", "1,234"),
        ("The job ran 71 seconds, compared with 75 in lesson 4.", "75"),
        ("In 5 of 20 trainings it failed.", "20"),
        ("| one thread | 7688 |\n", "7688"),
        ("| one thread | 7 |\n", "7"),
        ("(2030-01-01)", "2030-01-01"),
        ("(torch 2.14.1)", "2.14.1"),
        ("```output shape\n12.0  COMPLETED  00:01:11\n```\n", "00:01:11"),
        ('```output no-run="full"\n12.0  COMPLETED  759134K\n```\n', "759134K"),
    ],
)
def test_a_number_without_a_source_is_found(text, number):
    page = f"# Title\n\n{text}\n"
    data = {"not-measured": []}

    found = measured.without_source(data, {"page.md": page})

    line = measured.line_of(page, page.index(number))
    assert any(
        message.startswith(f"page.md:{line} has the number {number} without a source")
        for message in found
    ), found


@pytest.mark.parametrize(
    "text",
    [
        "See lesson 4, with 2 nodes and 10 epochs.",
        "`--time_min=30` and `sleep 5 s` are code.",
        "```bash\nsleep 2.5\n```\n",
        "```output\nloss 0.5123\n```\n",
        "[a page](https://example.org/12.5)",
        "A job with 3 CPUs.",
    ],
)
def test_a_number_that_was_not_measured_needs_no_source(text):
    data = {"not-measured": []}

    assert measured.without_source(data, {"page.md": f"{text}\n"}) == []


def test_an_exception_covers_its_number_until_the_setting_changes():
    setting = {"pattern": "4 GB", "why": "requested", "file": "run.sh", "contains": "srun"}
    texts = {"page.md": "It requests 4\nGB.\n"}
    data = {"not-measured": [setting]}
    assert measured.problems(data, texts) == []

    data["not-measured"] = [{**setting, "contains": "--mem=5G"}, {"pattern": "x", "why": "y"}]

    changed, unused = measured.problems(data, texts)
    assert "run.sh no longer contains --mem=5G" in changed
    assert "is on no page" in unused


# --- insertion


def test_new_values_replace_the_numbers_of_the_template_and_nothing_else():
    page = "It reaches 0.97 after\n10 epochs (AMD EPYC, 2030-01-01), not 0.97 after 20.\n"
    text = "reaches {acc:.2f} after {epochs} epochs ({machine}, {date})"
    new = {**entry(text, acc=0.985, epochs=12), "machine": "AMD EPYC 9B14", "date": TODAY}
    [template] = new["pages"]

    found = measured.insert(template, measured.names_of(new), page)

    expected = "It reaches 0.98 after\n12 epochs (AMD EPYC 9B14, 2031-02-03), not 0.97 after 20.\n"
    assert found == expected


@pytest.mark.parametrize("machine", ["Intel(R) Xeon(R) CPU @ 2.20GHz", "Apple M4", "AMD EPYC"])
def test_a_page_takes_the_name_of_any_machine(machine):
    page, text = "Measured on an AMD\nEPYC, in 7 s.\n", "on an {machine}, in {seconds} s"
    [template] = entry(text)["pages"]
    names = measured.names_of({**entry(text, seconds=8), "machine": machine})

    found = measured.insert(template, names, page)

    assert " ".join(found.split()) == f"Measured on an {machine}, in 8 s."
    assert measured.insert(template, names, found) == found


def test_the_columns_of_an_output_stay_in_place():
    page = "JobID    Elapsed     MaxRSS\n<job id>  00:01:11       947K\n"
    new = entry("<job id> {elapsed} {rss}", elapsed="100:01:11", rss="4947K")

    found = measured.insert(new["pages"][0], measured.names_of(new), page)

    assert found == "JobID    Elapsed     MaxRSS\n<job id> 100:01:11      4947K\n"


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("| mean  | calls |\n| 0.81  | 7     |\n", "| mean  | calls |\n| 0.5   | 12345 |\n"),
        ("| 0.81 | 7 |\n", "| 0.5 | 12345 |\n"),
    ],
)
def test_the_columns_of_a_table_stay_in_place(page, expected):
    new = entry("| {mean} | {calls} |", mean=0.5, calls=12345)

    assert measured.insert(new["pages"][0], measured.names_of(new), page) == expected


@pytest.mark.parametrize(
    ("page", "how_often"), [("nothing\n", "nowhere"), ("1 s\n1 s\n", "2 times")]
)
def test_a_template_must_be_on_its_page_once(page, how_often):
    new = entry("{seconds} s", seconds=1)

    with pytest.raises(MeasuredError, match=f"page.md contains {how_often}: {{seconds}} s"):
        measured.insert(new["pages"][0], measured.names_of(new), page)


def test_a_template_without_its_value_is_named():
    with pytest.raises(MeasuredError, match=r"has the field \{second\}, but its measurement"):
        measured.pattern("{second} s", measured.names_of(entry("{second} s", seconds=1)))


def test_the_file_can_hold_every_kind_of_text():
    texts = ["plain", 'with "quotes"', "with 'these'", "a\\d", "a\\d and '", "two\nlines \\ '\"\n"]
    data = {f"m{k}": entry(text, x=[1, 0.5], y="z") for k, text in enumerate(texts)}
    data["not-measured"] = [{"pattern": text, "why": "w"} for text in texts if "\n" not in text]

    assert measured.load(measured.dump(data)) == data


# --- the program


class FakeCourse:
    def __init__(self, venv):
        pass

    def use_data(self, folder):
        pass

    def versions(self):
        return {"torch": "2.14.1"}

    def close(self):
        pass


@pytest.fixture
def small_course(tmp_path, monkeypatch):
    """One page with two measurements; returns a function that sets what they find."""
    for module in (measured, measure):
        monkeypatch.setattr(module, "ROOT", tmp_path)
        monkeypatch.setattr(module, "FILE", tmp_path / "docs/measured.toml")
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("first: 1 s (2030-01-01)\nsecond: 2 s\n")
    data = {
        "first": entry("first: {seconds} s ({date})", "README.md", seconds=1),
        "second": entry("second: {seconds} s", "README.md", seconds=2),
        "not-measured": [],
    }
    measured.FILE.write_text(measured.dump(data))
    monkeypatch.setattr(course, "Course", FakeCourse)

    def finds(**results):
        def run(result):
            if isinstance(result, BaseException):
                raise result
            return result() if callable(result) else result

        fakes = {
            name: measurements.Measurement(1, "sample", name, lambda _, r=result: run(r))
            for name, result in results.items()
        }
        monkeypatch.setattr(measurements, "MEASUREMENTS", fakes)

    return finds


def test_a_measurement_is_written_with_its_evidence_and_inserted(small_course, tmp_path):
    small_course(first={"seconds": 7}, second={"seconds": 8})

    measure.measure(["first"], tmp_path, tmp_path)

    data = measured.load(measured.FILE.read_text())
    today = datetime.date.today()
    assert (tmp_path / "README.md").read_text() == f"first: 7 s ({today})\nsecond: 2 s\n"
    assert data["first"]["values"] == {"seconds": 7}
    assert data["first"]["date"] == today
    assert data["first"]["versions"] == {"torch": "2.14.1"}
    assert data["second"]["values"] == {"seconds": 2}
    assert measured.problems(data, measured.pages())[:1] == []


@pytest.mark.parametrize("ending", [KeyboardInterrupt(), MeasuredError("failed"), SystemExit(143)])
def test_an_interrupted_measurement_keeps_the_earlier_ones(small_course, tmp_path, ending):
    small_course(first={"seconds": 7}, second=ending)

    with pytest.raises(type(ending)):
        measure.measure(["first", "second"], tmp_path, tmp_path)

    data = measured.load(measured.FILE.read_text())
    assert [data[name]["values"] for name in ("first", "second")] == [
        {"seconds": 7},
        {"seconds": 2},
    ]
    assert sorted(path.name for path in (tmp_path / "docs").iterdir()) == ["measured.toml"]
    assert measured.disagreements(data, measured.pages()) == []


def test_a_page_that_was_edited_meanwhile_loses_no_measurement(small_course, tmp_path):
    text = (tmp_path / "README.md").read_text()

    def edit_page():
        (tmp_path / "README.md").write_text(text.replace("second: ", "second run: "))
        return {"seconds": 7}

    small_course(first=edit_page)
    with pytest.raises(MeasuredError, match="contains nowhere: second:"):
        measure.measure(["first"], tmp_path, tmp_path)

    assert measured.load(measured.FILE.read_text())["first"]["values"] == {"seconds": 7}
    (tmp_path / "README.md").write_text(text)
    measure.insert(measured.load(measured.FILE.read_text()))
    assert (tmp_path / "README.md").read_text().startswith("first: 7 s")


def test_pages_that_lack_a_template_are_named_before_anything_is_measured(small_course, tmp_path):
    small_course(first=AssertionError("it was measured"))
    (tmp_path / "README.md").write_text("first: 1 s (2030-01-01)\n")

    with pytest.raises(MeasuredError, match="contains nowhere: second"):
        measure.measure(["first"], tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("lesson-99", "lesson-99 is none of lesson-1, "),
        ("image", r"image is measured by hand \(.*\): write its values and its date into docs"),
    ],
)
def test_a_name_that_cannot_be_measured_is_refused(name, sentence):
    with pytest.raises(MeasuredError, match=sentence):
        measure.choose([name])


def test_the_sample_is_refused_where_the_full_set_is_measured(monkeypatch, tmp_path):
    monkeypatch.setattr(measurements, "check_data", lambda folder: "data: MNIST, sample: 10 digits")

    with pytest.raises(MeasuredError, match="/MNIST is the sample, not the full MNIST; run "):
        measure.measure(["lesson-1"], tmp_path, ROOT / "env")


def test_long_measurements_must_be_named():
    assert "lesson-7" not in measure.choose(None)
    assert measure.choose(["lesson-7"]) == ["lesson-7"]


def test_a_log_is_read():
    log = (
        "epoch  1/2  train loss 0.25 acc 0.91  val loss 0.13 acc 0.95\n"
        "<time> INFO epoch  2/2  train loss 0.12 acc 0.97  val loss 0.11 acc 0.96\n"
        "test loss 0.10 acc 0.94\n"
    )

    found = measurements.results(log)

    assert (found["val_acc"], found["test_acc"], found["best_epoch"]) == (0.96, 0.94, 2)
    assert found["val_loss_by_epoch"] == [0.13, 0.11]
