"""Check README and pages against the files that they mention: make test-fast."""

import re
from pathlib import Path

import pytest

from clone import ROOT
from lesson_diffs import changed_lines, lessons, part
from programs import LESSON_9

PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md")])
LESSONS = {int(path.name.split("-")[0]): path.stem for path in ROOT.glob("lessons/*-*.txt")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_existing_files_and_headings(page):
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text()):
        name, _, heading = target.partition("#")
        file = (page.parent / name).resolve() if name else page

        assert file.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.*)", file.read_text(), re.MULTILINE)
            assert heading in [re.sub(r"[^\w -]", "", t).lower().replace(" ", "-") for t in titles]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_contains_a_placeholder(page):
    assert not re.findall(r"(?<![\w./])@[A-Z]\w*", page.read_text())


@pytest.mark.parametrize("number", LESSONS)
def test_every_lesson_has_a_page_with_the_standard_sections(number):
    text = (ROOT / f"docs/lessons/{number}.md").read_text()
    expected = ["Get the code", "Run it", "You should see", "What happened", "When it goes wrong"]

    titles = re.findall(r"^## (.*)", text, re.MULTILINE)

    assert [title for title in titles if title in expected] == expected
    assert titles[-1] == "Key points"
    assert f"git switch {LESSONS[number]}\n" in text
    if number > 1:
        assert f"git diff {LESSONS[number - 1]} {LESSONS[number]}\n" in text


def test_the_readme_is_short_and_counts_changed_lines_correctly():
    text = (ROOT / "README.md").read_text()
    rows = re.findall(r"^\| \[`(\d+)-[^|]*\|[^|]*\| ([^|]*) \|", text, re.MULTILINE)
    files = lessons(ROOT)

    assert len(text.splitlines()) <= 150
    assert [int(number) for number, _ in rows] == sorted(LESSONS)
    for number, cell in rows[1:]:
        before, after = (part(files[int(number) - k], "training") for k in (1, 0))
        found = changed_lines(before, after)
        assert int(re.match(r"\d+", cell)[0]) == found
        new = files[int(number)].keys() - files[int(number) - 1].keys()
        named = re.findall(r"\w+\.py|src/\w+", cell)
        assert named and all(any(name in path for path in new) for name in named), cell
        if moved := re.search(r"of which (\d+) moved", cell):
            assert int(moved[1]) == found - changed_lines(before, after, follow_moves=True)


def test_files_that_the_readme_lists_exist():
    tree = (ROOT / "README.md").read_text().split("## What is where")[1].split("```")[1]

    for line in tree.strip().splitlines():
        for name in line.split("  ")[0].split():
            pattern = name.replace("N-name", "*").replace("N.md", "*.md").rstrip("/")
            assert list(Path(ROOT).glob(pattern)), name


def test_every_fault_on_the_page_is_injected_by_a_test():
    text = (ROOT / "docs/troubleshooting.md").read_text()
    sections = re.findall(r"^### (.*)\n\n(```output)?", text, re.MULTILINE)
    tests = "".join(path.read_text() for path in ROOT.glob("tests/faults/test_*.py"))

    assert len(sections) > 20
    for heading, shown in sections:
        assert shown, f"{heading}: the page shows no message"
        assert f'"{heading}"' in tests, f"{heading}: no test compares it with a log"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tensorboard_is_documented_on_localhost_only(page):
    text = page.read_text()

    assert not re.search(r"--bind_all|--host[ =](?!localhost|127\.0\.0\.1)|0\.0\.0\.0", text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_requeued_job_is_not_started_in_the_second_in_which_it_ended(page):
    """Its node would refuse it ("Job credential revoked"), and it would fail."""
    assert not re.search(r"StartTime=now(?!\+)", page.read_text())


TERMS = {
    *("node", "partition", "queue", "allocation", "gres", "module", "environment", "account"),
    *("job", "step", "task", "state", "requeue", "process", "thread", "worker", "device", "rank"),
    *("batch", "epoch", "checkpoint", "callback", "seed"),
}


def test_the_glossary_defines_each_term_in_a_few_words():
    text = (ROOT / "docs/glossary.md").read_text().split("\nFurther reading:")[0]
    found = dict(re.findall(r"^### (.*)\n\n((?:[^#\n].*\n)+)", text, re.MULTILINE))

    assert {name.lower() for name in found} >= TERMS
    assert len(found) == text.count("\n### ")
    for name, definition in found.items():
        assert len(definition.split()) <= 60, name


def test_the_glossary_names_arguments_that_run_py_has():
    table = (ROOT / "docs/glossary.md").read_text().split("\n|---")[1].split("\n\n")[0]
    declared = (LESSON_9 / "src/launch/arguments.py").read_text()
    rows = [line.split("|")[1:-1] for line in table.splitlines()[1:]]

    assert len(rows) > 10
    assert {len(row) for row in rows} == {5}
    for name in re.findall(r"--(\w+)", " ".join(row[2] for row in rows)):
        assert f'"--{name}"' in declared, name


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name != "README.md"], ids=lambda page: page.name
)
def test_every_page_ends_with_further_reading(page):
    _, _, end = page.read_text().rpartition("\nFurther reading")

    links = re.findall(r"\]\((https://[^)]+)\)", end)
    assert len(links) >= 2
    assert "\n## " not in end


@pytest.mark.parametrize("number", LESSONS)
def test_every_lesson_links_the_glossary_and_the_official_documentation(number):
    text = (ROOT / f"docs/lessons/{number}.md").read_text().split("\n## Check your work")[0]

    assert "](../glossary.md#" in text
    assert re.search(
        r"\]\(https://(slurm\.schedmd\.com|docs\.pytorch\.org|lightning\.ai|docs\.python\.org)/",
        text,
    )
