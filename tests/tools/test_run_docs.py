"""tools/run_docs.py on small pages: make test-fast."""

import sys
from pathlib import Path

import pytest
import run_docs


def differs(expected, found, shape=False):
    return run_docs.first_difference(expected, found, shape)


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        ("a b\n", "a b\n"),
        ("job <job id> -> logs\n", "job 12 -> logs\n"),
        ("first\n...\nlast\n", "first\nx\ny\nlast\n"),
        ("first\n...\nlast\n", "first\nlast\n"),
        ("...\nlast\n", "x\nlast\n"),
        ("first\n...\n", "first\nx\n"),
        ("loss 0.5763\n", "loss 0.5764\n"),
        ("JobID   State\n", "JobID      State  \n"),
        ("  <job id>  R\n", "       7    R\n"),
        ("(a) [b] $x\n", "(a) [b] $x\n"),
    ],
)
def test_an_output_matches(expected, found):
    assert differs(expected, found) is None


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        ("a b\n", "a c\n"),
        ("a\nb\n", "a\n"),
        ("a\n", "a\nb\n"),
        ("a\n", ""),
        ("", "a\n"),
        ("first\n...\nlast\n", "first\nx\n"),
        ("first\n...\nlast\n", "first\nlast\nx\n"),
        ("b\na\n", "a\nb\n"),
        ("loss 0.5763\n", "loss 0.6763\n"),
        ("4 files\n", "5 files\n"),
        ("job <job id> -> logs\n", "job  -> logs\n"),
    ],
)
def test_an_output_differs(expected, found):
    assert differs(expected, found)


def test_in_a_shape_only_the_numbers_are_free():
    assert differs("7 COMPLETED 00:01:11 4947K\n", "81 COMPLETED 00:02:00 5K\n", shape=True) is None
    assert differs("7 COMPLETED 00:01:11 4947K\n", "81 FAILED 00:02:00 5K\n", shape=True)
    assert differs("7 COMPLETED 00:01:11 4947K\n", "81 COMPLETED 00:02:00\n", shape=True)


def test_the_values_of_an_output_are_known_to_later_commands():
    expected = "Submitted batch job <job id>\n"

    assert run_docs.values_of(expected, "Submitted batch job 12\n") == {"job id": "12"}


def page(tmp_path, text):
    path = tmp_path / "page.md"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```bash no-run\nx\n```\n", "no-run needs a reason"),
        ("```bash lim=3\nx\n```\n", "'lim' is not one of"),
        ("```output\nx\n```\n", "no command before this output"),
        ("```bash\nx\n```\n```output\nx\n```\n```output\nx\n```\n", "no command before"),
    ],
)
def test_a_block_that_is_marked_wrongly_is_refused(tmp_path, text, message):
    with pytest.raises(run_docs.DocsError, match=message):
        run_docs.read_page(page(tmp_path, text))


@pytest.fixture
def reader():
    reader = run_docs.Reader(Path(sys.prefix))
    yield reader
    reader.close()


def follow(reader, tmp_path, text):
    reader.follow(page(tmp_path, text))
    reader.finish()


def test_one_shell_lasts_from_block_to_block(reader, tmp_path):
    follow(
        reader,
        tmp_path,
        "```bash\nname=Ada\nmkdir -p a && cd a\n```\n"
        '```bash\necho "$name in $(basename "$PWD")"\n```\n```output\nAda in a\n```\n',
    )


@pytest.mark.parametrize(
    ("text", "line", "found"),
    [
        ("```bash\necho a\n```\n\n```output\nb\n```\n", 5, "expected:\nb\nfound:\na"),
        ("text\n```bash\nfalse\necho a\n```\n", 2, "exit code 1, expected 0\nfound:\na"),
        ("```bash exit=3\ntrue\n```\n", 1, "exit code 0, expected 3"),
        ("```bash limit=1\necho a; sleep 60\n```\n", 1, "no end after 1 s\nfound:\na"),
        ("```bash\ncat <job id>\n```\n", 1, "no output before it shows <job id>"),
    ],
)
def test_the_first_failure_is_shown_with_its_place(reader, tmp_path, text, line, found):
    with pytest.raises(run_docs.DocsError) as error:
        follow(reader, tmp_path, text)

    assert f"page.md:{line}: " in str(error.value)
    assert found in str(error.value)


def test_a_block_that_waits_is_repeated_until_it_prints_what_the_page_shows(reader, tmp_path):
    block = "```bash wait=60\necho >>lines; grep -c ^ lines\n```\n```output\n3\n```\n"

    follow(reader, tmp_path, block)

    assert (reader.home / "lines").read_text() == "\n" * 3
    with pytest.raises(run_docs.DocsError, match="expected:\n3\n"):
        follow(reader, tmp_path, block.replace("wait=60", "wait=0"))


def test_a_job_that_is_requeued_has_not_ended(reader, tmp_path, monkeypatch):
    states = iter(["RUNNING", "SIGNALING", "REQUEUED", "PENDING", "COMPLETED"])
    monkeypatch.setattr(reader, "job_state", lambda job: next(states))
    monkeypatch.setattr(run_docs.time, "sleep", lambda seconds: None)
    reader.jobs = [("7", "COMPLETED", run_docs.Block(tmp_path / "page.md", 1, ""))]

    reader.wait_for_jobs()

    assert reader.jobs == []


def test_the_blocks_of_the_end_come_last(reader, tmp_path):
    text = "```bash at-end\nls\n```\n```output\nnew\n```\n```bash\ntouch new\n```\n"

    follow(reader, tmp_path, text)


def test_the_laptop_has_no_slurm_but_the_same_folder(reader, tmp_path):
    (tmp_path / "bin").mkdir()
    follow(
        reader,
        tmp_path,
        "```bash\nmkdir b && cd b\n```\n"
        '```bash laptop exit=1\nbasename "$PWD"; command -v sbatch\n```\n```output\nb\n```\n',
    )


def test_the_output_is_captured_into_the_page(tmp_path):
    reader = run_docs.Reader(Path(sys.prefix), capture=True)
    text = "```bash\necho b; echo $HOME/hpc-starter\n```\n\n```output\na\n```\n"

    follow(reader, tmp_path, text)
    reader.close()

    assert "```output\nb\n<folder>\n```\n" in (tmp_path / "page.md").read_text()


def test_with_setup_only_the_other_blocks_are_left_out(reader, tmp_path):
    reader.follow(page(tmp_path, "```bash setup\ntouch a\n```\n```bash\nfalse\n```\n"), True)

    assert (reader.home / "a").is_file()
