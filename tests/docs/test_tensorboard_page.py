"""TensorBoard on a run of lesson 5, opened in Chromium: make test.

SCREENSHOTS=FOLDER pytest tests/docs/test_tensorboard_page.py saves a picture of every tab.
"""

import re
import shutil
import sys
from pathlib import Path

import pytest

from page_rows import advice, shows
from practice_cluster import hold_apt_lock

pytest.importorskip("selenium", reason="pip install -r requirements-dev.txt")
from chromium import install_browser, open_browser, take_screenshot, wait_until
from tensorboard_tabs import SEEN, TABS, open_tab, tensorboard

NOTHING = r"No dashboards are active|No \w+ data was found|No data|Parsing tensors|Error"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser_packages(tmp_path_factory):
    with hold_apt_lock(tmp_path_factory):
        install_browser()


@pytest.fixture(scope="module")
def server(module_clone, browser_packages, tmp_path_factory):
    """A TensorBoard on the logs of a run, copied home as the pages describe."""
    module_clone.git("switch", "--quiet", "5-improved-logging")
    done = module_clone.run(sys.executable, "run.py", "--local", "--experiment_name=metrics")
    assert done.returncode == 0, done.stderr
    home = tmp_path_factory.mktemp("home")
    shutil.move(module_clone.folder / "logs", home / "logs")
    [accuracy] = re.findall(r"test loss [\d.]+ acc ([\d.]+)", done.stdout)
    with tensorboard(home / "logs", module_clone.env) as found:
        found.accuracy = float(accuracy)
        yield found


@pytest.fixture(scope="module")
def browser(server, tmp_path_factory):
    driver = open_browser(tmp_path_factory.mktemp("chromium"))
    yield driver
    driver.quit()


@pytest.mark.parametrize("tab", TABS)
def test_a_tab_shows_its_content(browser, server, tmp_path, tab):
    shown = open_tab(browser, server, tab)
    picture = take_screenshot(browser, tab, tmp_path)
    texts = browser.execute_script(SEEN + "return texts")

    assert shown, f"nothing on {tab}: {[text for text in texts if text]}"
    assert not [text for text in texts if re.match(NOTHING, text)]
    assert len(picture.getcolors(1 << 22)) > 50


def test_the_projector_draws_the_images(browser, server, tmp_path):
    open_tab(browser, server, "projector")

    picture = take_screenshot(browser, "projector", tmp_path)
    width, height = picture.size
    # the plot, between the two panels and below the toolbar; it turns, so images come and go
    plot = picture.crop((width // 3, height // 10, width * 2 // 3, height)).convert("L")

    dark, light = sum(plot.histogram()[:50]), sum(plot.histogram()[200:])
    assert dark > 1000  # the background of the digits
    assert light > 1000


def test_the_hparams_table_shows_the_accuracy_from_the_log(browser, server):
    open_tab(browser, server, "hparams")

    texts = browser.execute_script(SEEN + "return texts")

    cells = texts[texts.index("Trial ID") :]
    assert "metrics/version_0" in cells
    numbers = [float(cell) for cell in cells if re.fullmatch(r"\d+\.\d+", cell)]
    assert server.accuracy in [round(number, 4) for number in numbers]


def test_a_folder_without_event_files_shows_no_dashboard(browser, server, module_clone, tmp_path):
    def texts():
        return "\n".join(browser.execute_script(SEEN + "return texts"))

    with tensorboard(tmp_path, module_clone.env) as empty:
        browser.get(f"http://localhost:{empty.port}/")
        wait_until(lambda: "No dashboards" in texts())
        shown = texts()
    # the other TensorBoard, whose folder logs contains metrics/version_0
    advice("lessons/5", "No dashboards are active", "`version_0`, or one above it")
    active = open_tab(browser, server, "scalars")

    shows("lessons/2", "TensorBoard: No dashboards are active", shown)
    shows("lessons/5", "No dashboards are active", shown)
    assert active


def test_tensorboard_listens_on_this_machine_only(server):
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    sockets = set()
    for pid in (server.pid, *children):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            sockets.update(re.findall(r"socket:\[(\d+)\]", str(link.readlink())))

    rows = [
        line.split()
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for line in Path(table).read_text().splitlines()[1:]
    ]
    listening = [row[1].split(":") for row in rows if row[3] == "0A" and row[9] in sockets]

    assert f"{server.port:04X}" in [port for _, port in listening]
    loopback = {"0100007F", "00000000000000000000000001000000"}
    assert {address for address, _ in listening} <= loopback
