"""tools/changed_words.py on small pages: make test-fast."""

import sys
from pathlib import Path

from changed_words import Doubter, changed, choose

PAGE = """
```bash
mkdir -p a && ls  # a comment
```

```output
a
```

```bash
NAME=ada && ls a
```

```bash
sleep 0.1
```
"""


def test_every_word_is_changed_once():
    assert changed("ls -l <job id> a/b.py # c\n") == [
        "lsx -l <job id> a/b.py # c\n",
        "ls -lx <job id> a/b.py # c\n",
        "ls -l <job id> a/b.pyx # c\n",
    ]
    assert changed("loss 0.57\n...\n") == ["lossx 0.57\n...\n", "loss 1.57\n...\n"]


def test_what_may_differ_is_not_changed():
    assert changed("sleep 5 && echo any text\n") == []
    assert changed("10 4947K\n", shape=True) == []


def test_a_command_that_ends_something_is_left_alone(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```bash\nscancel 7; echo done\n```\n```output\ndone\n```\n")

    chosen = choose([page], 0, 1)

    assert chosen == {(page, 4): ["donex\n"]}


def test_the_same_seed_chooses_the_same_places(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE)

    chosen = [choose([page], 3, seed) for seed in (1, 1, 2)]

    assert chosen[0] == chosen[1] != chosen[2]
    assert sum(map(len, chosen[0].values())) == 3


def test_changes_are_noticed_and_leave_nothing_behind(tmp_path, capfd):
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    reader = Doubter(Path(sys.prefix), choose([page], 0, 1))
    try:
        reader.login.run("mkdir clone && cd clone", 5)
        reader.follow(page)
        left = {path.name for path in (reader.home / "clone").iterdir()}
    finally:
        reader.close()

    # NAME is not used
    missed = ["NAME=ada -> NAMEx=ada", "NAME=ada -> NAME=adax"]
    assert [change.partition(": ")[2] for change in reader.missed] == missed
    assert len(reader.noticed) == 7
    assert {name for name in left if not name.startswith(".block")} == {"a"}
