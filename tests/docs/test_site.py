"""The rendered web site, in files and in a browser without a server: make test."""

import json
import os
import re
import signal
import subprocess
import sys
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import axe_core_python
import make_site
import pytest
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from chromium import install_browser, open_browser, wait_until
from clone import ROOT, Clone, copy_working_tree
from processes import accept_signals

pytestmark = pytest.mark.slow

AXE = (Path(axe_core_python.__file__).parent / "axe.min.js").read_text()
UNFOLD = """
document.head.append(document.createElement("style"));
document.head.lastChild.textContent = "*, ::before, ::after { transition: none !important; }";
document.querySelectorAll("details").forEach((part) => { part.open = true; });
"""
# axe takes its time: of many equal parts it gets the first ones
SHORTEN = """
const keep = (parts, number) => [...parts].slice(number).forEach((part) => part.remove());
document.querySelectorAll("pre").forEach((pre) => keep(pre.childNodes, 20));
document.querySelectorAll("tbody").forEach((table) => keep(table.rows, 4));
keep(document.querySelectorAll("details.diff"), 5);
"""
RUN_AXE = """
const [exclude, options, done] = arguments;
axe.run({exclude}, {resultTypes: ["violations"], preload: false, ...options})
  .then((found) => done(found.violations));
"""
NEW_PAGE = """# A page that is new

> **Time:** none.

<!-- the links: -->
[the data](../data/numbers.bin), [a drawing](../.img/roadmap.svg), [above](#a-page-that-is-new)

![the drawing](../.img/roadmap.svg)

<picture>
  <source media="(prefers-color-scheme: dark)" srcset="../.img/night.png">
  <img src="../.img/day.png" width="20" alt="A word in &quot;quotes&quot;">
</picture>

```bash no-run="a reason"
$ echo "one"
one
$ echo <job id> & echo three
```

```output
no button here
```
"""


class Page(HTMLParser):
    """The links, resources and names of a page."""

    def __init__(self, path):
        super().__init__()
        self.links, self.resources, self.names = [], [], {""}
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.names.add(attrs.get("id") or "")
        if tag == "a":
            self.links += [attrs["href"]] if "href" in attrs else []
        else:
            self.resources += [attrs[name] for name in ("src", "href", "data") if attrs.get(name)]


@pytest.fixture(scope="module")
def clone(course, tmp_path_factory):
    """A clone of main alone, with edits and a new page that are not committed."""
    folder = tmp_path_factory.mktemp("site") / "hpc-starter"
    course.git("clone", "--quiet", "--depth=1", f"file://{course.folder}", str(folder))
    clone = Clone(folder, course.env)
    (folder / "docs/new-page.md").write_text(NEW_PAGE)
    (folder / "data/numbers.bin").write_bytes(b"\xff\xfe\x00")
    for name in ("day", "night"):
        Image.new("RGB", (20, 10)).save(folder / f".img/{name}.png")
    with (folder / "src/main.py").open("a") as file:
        file.write('# an edit: <b> & "quotes"\n')
    return clone


def build(clone, **env):
    return clone.run(sys.executable, "tools/make_site.py", env={**clone.env, **env})


@pytest.fixture(scope="module")
def site(clone):
    before = clone.git("status", "--porcelain"), clone.git("for-each-ref")

    done = build(clone)

    assert done.returncode == 0, done.stderr
    assert (clone.git("status", "--porcelain"), clone.git("for-each-ref")) == before
    pages = list((clone.folder / "site").rglob("*.html"))
    # the page of the search has no source
    assert done.stdout == f"{len(pages) - 1} pages: open site/index.html\n"
    return clone.folder / "site"


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path) for path in sorted(site.rglob("*.html"))}


def lesson_pages(site):
    return sorted(site.glob("docs/lessons/*[0-9].html"), key=lambda path: int(path.stem))


def test_every_link_leads_to_a_file_and_a_name_in_it(site, pages):
    for path, page in pages.items():
        for href in (*page.links, *page.resources):
            target = urlsplit(href)
            if target.scheme in ("http", "https", "data"):
                continue
            file = (path.parent / unquote(target.path)).resolve() if target.path else path
            assert file.is_file(), f"{path.relative_to(site)}: {href}"
            if file in pages:
                assert unquote(target.fragment) in pages[file].names, f"{path}: {href}"


def test_nothing_is_loaded_from_elsewhere(site, pages):
    for path, page in pages.items():
        assert [href for href in page.resources if re.match("(https?:)?//", href)] == [], path
    for path in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", path.read_text()), path


def test_every_page_says_its_language_its_title_and_its_version(pages):
    titles = []
    for path in pages:
        text = path.read_text()
        titles += re.findall("<title>(.*?)</title>", text.split("</head>")[0])
        assert '<html class="no-js" lang="en"' in text
        assert re.search(r"Last updated on \d{4}-\d\d-\d\d, commit [0-9a-f]{7,} with edits", text)

    assert len(set(titles)) == len(titles) == len(pages)


def test_next_leads_through_the_course_and_past_the_changes(site):
    page, visited = site / "index.html", []
    while found := re.search('<a class="next-page" href="([^"]+)"', page.read_text()):
        page = (page.parent / found[1]).resolve()
        visited.append(page.relative_to(site / "docs").with_suffix("").as_posix())

    lessons = [name for name in visited if name.startswith("lessons/")]
    assert visited[0] == "preparation"
    assert lessons == [f"lessons/{path.stem}" for path in lesson_pages(site)]
    assert len(lessons) == len(list(ROOT.glob("docs/lessons/*.md")))
    assert len(visited) == len(set(visited)) == len(list(ROOT.glob("docs/**/*.md"))) + 1
    assert visited[-1] == "new-page"


def shown_lines(page):
    blocks = re.findall(r'<details class="diff">.*?<pre>(.*?)</pre>', page.read_text(), re.DOTALL)
    return unescape(re.sub("<[^>]+>", "", "".join(blocks))).splitlines()


@pytest.mark.parametrize("number", [3, 9, 10])
def test_the_page_of_changes_has_the_lines_of_the_diff(clone, site, number):
    text = clone.run(sys.executable, "tools/lessons.py", "diff", str(number)).stdout
    hunks = re.findall(r"^@@.*\n(?:(?!diff --git ).*\n)*", text, re.MULTILINE)

    shown = shown_lines(site / f"docs/lessons/{number}-changes.html")

    assert shown == "".join(hunks).splitlines()
    assert number != 3 or {"-#SBATCH --mem=2G", "+#SBATCH --mem=4G"} <= set(shown)
    assert number != 10 or '+# an edit: <b> & "quotes"' in shown


def test_each_lesson_page_leads_to_its_changes_at_once(site):
    for path in lesson_pages(site):
        top = path.read_text().split("<article")[1].split("<h2>")[0]
        assert f'href="{path.stem}-changes.html"' in top

        text = path.with_name(f"{path.stem}-changes.html").read_text()
        message = next(ROOT.glob(f"lessons/{path.stem}-*.txt")).read_text()
        assert message.splitlines()[0] in unescape(text)
        assert f'href="{path.stem}.html"' in text.split("<article")[1].split("<details")[0]
        files = set(re.findall(r"<summary><code>(.*?)</code>", text))
        assert "src/main.py" in files


# --- what must fail


@pytest.fixture
def copy(tmp_path):
    """The working tree without git."""
    copy_working_tree(tmp_path / "copy")
    return Clone(tmp_path / "copy", dict(os.environ))


def test_every_dead_link_is_named_in_a_sentence(copy):
    (copy.folder / "site").mkdir()
    (copy.folder / "site/searchindex.js").write_text("the last site")
    page = copy.folder / "docs/glossary.md"
    lines = page.read_text().count("\n")
    gone = "which is not in the repository: correct the path."
    dead = {
        "nowhere.md": f"docs/nowhere.md, {gone}",
        "../src/nowhere.py": f"src/nowhere.py, {gone}",
        "../.img/nowhere.svg": f".img/nowhere.svg, {gone}",
        "sites.md#nowhere": "a heading that docs/sites.md does not have: correct #nowhere.",
        "#nowhere": "a heading that docs/glossary.md does not have: correct #nowhere.",
        "../run.sh#L3": "a heading of run.sh, which is not a page: remove #L3.",
        "/etc/hostname": f"/etc/hostname, {gone}",
        "../src": "a folder, which the site cannot show: link a file in it.",
    }
    with page.open("a") as file:
        file.write("\n" + "\n".join(f"[words]({href})" for href in dead))
        file.write("\n\n| a |\n|---|\n| [words](gone.md) |\n")
        file.write('\n<picture>\n  <img src="gone.png" alt="words">\n</picture>\n')

    done = build(copy)

    assert done.returncode == 1
    errors = done.stderr.splitlines()
    where = f"docs/glossary.md:{lines + 2}: the link"
    assert errors[:-2] == [f"{where} {href} leads to {what}" for href, what in dead.items()]
    last = lines + len(dead) + 5
    assert errors[-2:] == [
        f"docs/glossary.md:{last}: the link gone.md leads to docs/gone.md, {gone}",
        f"docs/glossary.md:{last + 2}: the link gone.png leads to docs/gone.png, {gone}",
    ]
    assert (copy.folder / "site/searchindex.js").read_text() == "the last site"


def test_a_warning_of_sphinx_fails_and_names_the_page(copy):
    page = copy.folder / "docs/glossary.md"
    page.write_text(page.read_text() + "\n```bsh\nls\n```\n")

    # as some environments set them; with either, Sphinx would print colours
    done = build(copy, FORCE_COLOR="1", CI="true")

    assert done.returncode == 1
    assert re.match(r"docs/glossary.md:\d+: WARNING: .*'bsh'", done.stderr), done.stderr
    assert done.stderr.endswith("The site was not written.\n")
    assert not (copy.folder / "site").exists()


def test_a_page_that_is_gone_is_named(monkeypatch):
    monkeypatch.setitem(make_site.GROUPS, "Teach it", ["gone"])
    pages = {f"docs/{name}.md": "" for names in make_site.GROUPS.values() for name in names}
    del pages["docs/gone.md"]

    with pytest.raises(SystemExit, match=r"GROUPS in .* names docs/gone\.md, which does not exist"):
        make_site.navigation(pages)


def test_a_folder_with_other_files_is_kept(copy):
    (copy.folder / "site").mkdir()
    (copy.folder / "site/mine.txt").write_text("mine")

    done = build(copy)

    assert done.returncode == 1
    assert done.stderr == "site/ was not written by make site: rename or delete this folder.\n"
    assert (copy.folder / "site/mine.txt").read_text() == "mine"


# --- the old site and the new one

FILES = ("searchindex.js", "index.html", "_static/old.css")
# main without pages, in another folder; instead of Sphinx, some code
RUN_MAIN = """
import errno, os, sys, time
from pathlib import Path
import make_site

def render(sources, target):
    target.mkdir()
    (target / "index.html").write_text("new")
    {code}

make_site.ROOT = Path(sys.argv[1])
make_site.find_pages = lambda: {{}}
make_site.assemble = lambda pages, links, sources: 40
make_site.render = render
make_site.main()
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with an old site, and a new site beside it."""
    for name in FILES:
        (tmp_path / "site" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "site" / name).write_text("old")
    (tmp_path / "new").mkdir()
    (tmp_path / "new/index.html").write_text("new")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def start_main(place, code):
    command = [sys.executable, "-c", RUN_MAIN.format(code=code), str(place)]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "tools")}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=env, preexec_fn=accept_signals, **pipes)


def is_old(place):
    return all((place / "site" / name).read_text() == "old" for name in FILES) and {
        path.name for path in place.iterdir()
    } == {"site", "new"}


def test_a_new_site_replaces_the_old_one_as_a_whole(place):
    process = start_main(place, "pass")

    assert process.communicate() == ("40 pages: open site/index.html\n", "")
    assert process.returncode == 0
    assert [path.name for path in (place / "site").iterdir()] == ["index.html"]
    assert (place / "site/index.html").read_text() == "new"
    assert {path.name for path in place.iterdir()} == {"site", "new"}


def test_read_only_folders_of_the_old_site_go_too(place, monkeypatch):
    (place / "site/_static").chmod(0o555)
    remove_all = make_site.shutil.rmtree

    def rmtree(path):
        # what the system refuses to anyone but root
        if any(not folder.stat().st_mode & 0o200 for folder in path.rglob("_static")):
            raise PermissionError(13, "Permission denied")
        remove_all(path)

    monkeypatch.setattr(make_site.shutil, "rmtree", rmtree)
    make_site.replace_site(Path("new"), Path("old"))

    assert [path.name for path in place.iterdir()] == ["site"]
    assert (place / "site/index.html").read_text() == "new"


def test_what_remains_of_the_old_site_is_named(place, monkeypatch, capsys):
    def rmtree(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(make_site.shutil, "rmtree", rmtree)
    make_site.replace_site(Path("new"), Path("old"))

    assert (place / "site/index.html").read_text() == "new"
    expected = "Parts of the old site remain (Permission denied): delete old/.\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize("fails", ["site", "new"])
def test_an_old_site_that_cannot_be_replaced_is_kept(place, monkeypatch, fails):
    rename = Path.rename

    def refuse(path, target):
        if str(path) == fails:
            raise PermissionError(13, "Permission denied")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(SystemExit) as stopped:
        make_site.replace_site(Path("new"), Path("old"))

    assert str(stopped.value).startswith("site/ cannot be replaced (Permission denied): ")
    assert str(stopped.value).endswith("The old site is in site/.")
    assert is_old(place)


@pytest.mark.parametrize("target", ["new", "nowhere"])
def test_a_link_is_not_replaced(place, target):
    make_site.shutil.rmtree("site")
    (place / "site").symlink_to(target)

    with pytest.raises(SystemExit, match=r"site is a symbolic link, .*: delete the link"):
        make_site.check_place()

    assert (place / "site").readlink() == Path(target)


def test_a_full_disk_is_one_sentence_and_keeps_the_old_site(place):
    process = start_main(place, "raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))")

    out, err = process.communicate()

    what = "No space left on device: free some space. The site was not written."
    assert (process.returncode, out, err) == (1, "", f"{place}: {what}\n")
    assert is_old(place)


def test_a_folder_that_cannot_be_written_is_named(place):
    # in proc, root cannot make folders either
    process = start_main(Path("/proc/self"), "pass")

    out, err = process.communicate()

    assert (process.returncode, out) == (1, "")
    assert re.fullmatch(r"/proc/self: .+: make it .+\. The site was not written\.\n", err)


def test_a_full_disk_of_sphinx_is_one_sentence(monkeypatch, tmp_path):
    said = "WARNING: error writing file x.html: [Errno 28] No space left on device\nmore\n"

    def run(command, **kwargs):
        return subprocess.CompletedProcess(command, 2, stderr=said)

    monkeypatch.setattr(make_site, "version", lambda: ("", "0"))
    monkeypatch.setattr(make_site.subprocess, "run", run)
    with pytest.raises(OSError, match="No space left on device"):
        make_site.render(tmp_path / "sources", tmp_path / "site")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_the_old_site_and_no_folders(place, number):
    process = start_main(place, "print('renders', flush=True); time.sleep(600)")
    assert process.stdout.readline() == "renders\n"

    process.send_signal(number)

    out, err = process.communicate()
    assert (out, err) == ("", "\ninterrupted: site/ is as it was\n")
    assert process.returncode == 128 + number
    assert is_old(place)


# --- files that are not pages


def refusal_of(function, *args):
    with pytest.raises(SystemExit) as stopped, make_site.plain_errors():
        function(*args)
    return str(stopped.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("latin.md").write_bytes(b"# T\n\n\xe9\n")
    Path("link.md").symlink_to("nowhere.md")
    Path("folder.md").mkdir()
    os.mkfifo("pipe.md")
    Path("a\nb.md").touch()

    said = {str(path): refusal_of(make_site.read, str(path)) for path in Path().iterdir()}

    assert said == {
        "latin.md": "latin.md:3 is not UTF-8 text: save the file as UTF-8.",
        "link.md": "link.md is a link that leads nowhere: correct or delete it.",
        "folder.md": "folder.md is not a file: rename or delete it.",
        "pipe.md": "pipe.md is not a file: rename or delete it.",
        "a\nb.md": r"a\nb.md has a name that no link can have: rename it.",
    }
    missing = "README.md is missing: restore it, such as with git restore README.md."
    assert refusal_of(make_site.find_pages) == missing


def test_an_error_of_the_system_names_the_file():
    def fail():
        raise PermissionError(13, "Permission denied", "docs/a\x1b[2J.md")

    assert refusal_of(fail) == (
        r"docs/a\x1b[2J.md: Permission denied: make it readable and writable."
        " The site was not written."
    )


def test_a_drawing_that_is_not_text_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.svg").write_bytes(b"\xff")
    link = make_site.Link("README.md", 0, 1, "a.svg")

    said = refusal_of(make_site.write_pictures, [link], tmp_path / "sources")

    assert said == "a.svg:1 is not UTF-8 text: save the file as UTF-8."


def test_a_changed_file_that_is_not_text_is_named():
    text = "<summary><code>src/a.py</code> changed</summary>\n<ins>\udce9</ins>"

    said = refusal_of(make_site.check_encoding, text)

    assert said == "src/a.py is not UTF-8 text: save the file as UTF-8."
    said = refusal_of(make_site.check_encoding, '<div class="message">\udce9</div>')
    assert said.startswith("A message in lessons/ is not UTF-8 text: ")


@pytest.mark.parametrize("missing", ["alt", "width", "src"])
def test_a_picture_that_lacks_an_attribute_is_named(missing):
    given = {"src": "day.png", "width": "20", "alt": "words"}
    tag = " ".join(f'{name}="{given[name]}"' for name in given if name != missing)
    text = f'# T\n\n<picture>\n  <source srcset="night.png">\n  <img {tag}>\n</picture>\n'
    match = make_site.PICTURE.search(text)

    said = refusal_of(make_site.split_picture, "docs/a.md", match)

    assert said == f'docs/a.md:5: the picture has no {missing}: add {missing}="..." to <img>.'


def test_a_lesson_page_with_only_a_title_is_named():
    said = refusal_of(make_site.link_changes, "# Lesson 3\n", "docs/lessons/3.md")

    assert said.startswith("docs/lessons/3.md is too short for the page of a lesson: write ")


def test_a_link_cannot_change_the_terminal_and_may_be_long(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    page = f"[a](<z\x1b]0;P\x07.md>)\n[b]({'x' * 5000}.md)\n[c](pipe)\n[d](HTTPS://x.y)\n"
    links = list(make_site.find_links("README.md", page))

    said = refusal_of(make_site.check_links, links, {"README.md": page}).split("\n")

    assert len(said) == 3
    assert all(line.isprintable() for line in said)
    assert r"leads to z\x1b]0;P\x07.md, which is not in the repository" in said[0]
    assert said[2].endswith("leads to pipe, which is not a file: link another one.")


# --- in a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    install_browser()
    driver = open_browser(tmp_path_factory.mktemp("profile"))
    # axe needs seconds for a page, and more on a busy machine
    driver.set_script_timeout(600)
    yield driver
    driver.quit()


def set_scheme(browser, scheme):
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


def show(browser, page, width=1280, scheme="light"):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    set_scheme(browser, scheme)
    browser.get(page.as_uri())


def requests(browser):
    """Return the addresses that were requested since the last call."""
    messages = (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
    return [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]


def check_size_and_requests(browser, page):
    """Check that a page and its tables fit, and that nothing is missing or from elsewhere."""
    widths = browser.execute_script(
        "return [document.scrollingElement, ...document.querySelectorAll('.table-wrapper')]"
        ".map((part) => [part.scrollWidth, part.clientWidth])"
    )
    assert all(scrolls <= shown for scrolls, shown in widths), f"{page}: {widths}"
    found = requests(browser)
    assert page.as_uri() in found and len(found) > 5
    assert [url for url in found if not url.startswith(("file:", "data:", "chrome:"))] == [], page
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == [], page


def check_with_axe(browser, page, exclude=(), **options):
    found = browser.execute_async_script(RUN_AXE, exclude, options)
    serious = [
        (fault["id"], node["html"])
        for fault in found
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]
    assert serious == [], page


def test_each_page_fits_a_desktop_and_axe_finds_no_serious_fault(browser, pages):
    # the navigation is the same on all pages
    navigation = []
    for path in pages:
        show(browser, path)
        browser.execute_script(UNFOLD)
        check_size_and_requests(browser, path)
        browser.execute_script(SHORTEN + AXE)
        check_with_axe(browser, path, navigation)
        set_scheme(browser, "dark")
        # the other rules do not depend on the colours
        check_with_axe(browser, path, navigation, runOnly=["color-contrast"])
        navigation = [[".sidebar-drawer"]]


def test_each_page_fits_a_phone_and_axe_finds_no_serious_fault(browser, site, pages):
    chosen = {
        site / f"{name}.html" for name in ("index", "docs/lessons/1", "docs/lessons/3-changes")
    }
    for path in pages:
        show(browser, path, 390)
        browser.execute_script(UNFOLD)
        check_size_and_requests(browser, path)
        if path in chosen:
            browser.execute_script(SHORTEN + AXE)
            check_with_axe(browser, path)
            set_scheme(browser, "dark")
            check_with_axe(browser, path)


def test_search_finds_words_of_pages_and_of_changes(browser, site):
    show(browser, site / "docs/glossary.html")
    browser.find_element(By.CSS_SELECTOR, ".sidebar-search").send_keys("requeue", Keys.ENTER)

    def results():
        found = browser.find_elements(By.CSS_SELECTOR, "#search-results li a")
        return [link.get_attribute("href") for link in found]

    assert wait_until(results)
    assert any("docs/glossary.html" in link for link in results())
    assert any("docs/lessons/9.html" in link for link in results())
    assert not any("/files/" in link for link in results())
    # a word of the program, which only a page of changes has
    show(browser, site / "docs/glossary.html")
    field = browser.find_element(By.CSS_SELECTOR, ".sidebar-search")
    field.send_keys("prepare_workers", Keys.ENTER)
    assert wait_until(lambda: any("3-changes.html" in link for link in results()))
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_the_copy_button_takes_commands_without_prompt_and_output(browser, site):
    show(browser, site / "docs/new-page.html")
    assert wait_until(lambda: browser.find_elements(By.CSS_SELECTOR, "button.copybtn"))
    [button] = browser.find_elements(By.CSS_SELECTOR, "button.copybtn")

    button.click()

    browser.execute_script(
        "document.querySelector('article').append(document.createElement('textarea'))"
    )
    field = browser.find_element(By.CSS_SELECTOR, "textarea")
    field.send_keys(Keys.CONTROL, "v")
    assert field.get_attribute("value").strip() == 'echo "one"\necho <job id> & echo three'


def focused(browser):
    return browser.switch_to.active_element


def press_tab_until(browser, selector):
    """Press Tab until an element has the focus, and check that each one on the way shows it."""
    for _ in range(80):
        focused(browser).send_keys(Keys.TAB)
        element = focused(browser)
        if browser.execute_script("return arguments[0].matches(arguments[1])", element, selector):
            return element
    raise AssertionError(f"the Tab key does not reach {selector}")


def outline(element):
    return element.value_of_css_property("outline-style"), element.value_of_css_property(
        "outline-width"
    )


def test_links_theme_and_folds_work_with_the_keyboard(browser, site):
    show(browser, site / "docs/lessons/3-changes.html")
    fold = press_tab_until(browser, ".toctree-checkbox")
    label = fold.find_element(By.XPATH, "following-sibling::label")
    assert outline(label) == ("solid", "2px")
    fold.send_keys(Keys.SPACE)
    assert fold.is_selected()

    theme = press_tab_until(browser, ".theme-toggle")
    assert outline(theme) == ("solid", "2px")
    seen = []
    for _ in range(3):
        theme.send_keys(Keys.ENTER)
        seen.append(browser.find_element(By.TAG_NAME, "body").get_attribute("data-theme"))
    assert sorted(seen) == ["auto", "dark", "light"]

    press_tab_until(browser, "button.unfold").send_keys(Keys.ENTER)
    assert all(part.get_attribute("open") for part in browser.find_elements(By.TAG_NAME, "details"))
    block = press_tab_until(browser, "details pre")
    assert outline(block) == ("solid", "2px")
    summary = press_tab_until(browser, "summary")
    summary.send_keys(Keys.ENTER)
    assert not summary.find_element(By.XPATH, "..").get_attribute("open")

    show(browser, site / "docs/glossary.html")
    link = press_tab_until(browser, ".sidebar-tree a[href='lessons/4.html']")
    assert outline(link) == ("solid", "2px")
    link.send_keys(Keys.ENTER)
    assert wait_until(lambda: browser.current_url.endswith("docs/lessons/4.html"))


def test_the_menu_of_a_phone_opens_with_the_keyboard(browser, site):
    show(browser, site / "docs/glossary.html", 390)
    menu = press_tab_until(browser, "#__navigation")
    closed = browser.find_element(By.CSS_SELECTOR, ".sidebar-tree a")
    assert not closed.is_displayed()

    menu.send_keys(Keys.SPACE)

    assert wait_until(closed.is_displayed)
    press_tab_until(browser, ".sidebar-tree a")


def test_drawings_follow_the_theme_that_the_reader_chose(browser, site):
    show(browser, site / "docs/new-page.html")
    pictures = browser.find_elements(By.CSS_SELECTOR, "article img")

    assert pictures[-1].get_attribute("alt") == 'A word in "quotes"'

    def shown():
        return [
            picture.get_attribute("src").split("/")[-1]
            for picture in pictures
            if picture.is_displayed()
        ]

    browser.execute_script("document.body.dataset.theme = 'dark'")
    assert shown() == ["roadmap.dark.svg", "night.png"]
    browser.execute_script("document.body.dataset.theme = 'light'")
    assert shown() == ["roadmap.svg", "day.png"]
