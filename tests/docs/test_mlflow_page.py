"""The MLflow challenge of lesson 5: train with it, and open its dashboard in Chromium: make test.

SCREENSHOTS=FOLDER pytest tests/docs/test_mlflow_page.py saves a picture of the curves.
"""

import re
import shlex
import shutil
import socket
import subprocess
import sysconfig
import urllib.request
from importlib.metadata import distributions

import pytest

from clone import ROOT
from overlay import overlay_environment, site_packages
from practice_cluster import hold_apt_lock

pytest.importorskip("selenium", reason="pip install -r requirements-dev.txt")
from chromium import install_browser, open_browser, take_screenshot, wait_until

pytestmark = pytest.mark.slow
PAGE = (ROOT / "docs/lessons/5.md").read_text()
EXPERIMENT = "{url}/#/experiments/1/runs?compareRunsMode=CHART"
# a curve has a legend only once it is drawn
CURVES = """
const text = document.body.innerText;
return ['train_loss', 'val_acc', 'test_acc'].every(tag => text.includes(`version_0 (${tag})`));
"""


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory):
    return overlay_environment(tmp_path_factory.mktemp("mlflow") / "env", "requirements-mlflow.txt")


@pytest.fixture(scope="module")
def trained(module_clone, mlflow):
    """The clone after the training of the solution."""
    module_clone.env["MLFLOW_DISABLE_TELEMETRY"] = "true"
    module_clone.git("switch", "--quiet", "5-improved-logging")
    module_clone.git("apply", "docs/solutions/5-mlflow.patch")
    arguments = ("--local", "--experiment_name=mlflow", "--max_epochs=3", "--no-plots")
    done = module_clone.run(str(mlflow / "bin/python"), "run.py", *arguments)
    assert done.returncode == 0, done.stderr
    return module_clone


@pytest.fixture(scope="module")
def url(trained, mlflow, tmp_path_factory):
    """The address of the dashboard, started with the command of the page."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(trained.folder / "logs", home / "logs")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    [command] = re.findall(r"^mlflow ui .*", PAGE, re.MULTILINE)
    words = [str(mlflow / "bin/mlflow"), *shlex.split(command)[1:], f"--port={port}"]
    with (home / "server.log").open("w") as log:
        server = subprocess.Popen(words, cwd=home, env=trained.env, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    answers = wait_until(lambda: is_healthy(address) or server.poll() is not None, seconds=120)
    assert answers and server.poll() is None, (home / "server.log").read_text()
    yield address
    server.terminate()
    server.wait()


def is_healthy(address):
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def test_mlflow_replaces_no_package_of_the_course(mlflow):
    folders = (str(site_packages(mlflow)), sysconfig.get_path("purelib"))
    added, ours = ({each.name.lower() for each in distributions(path=[path])} for path in folders)

    assert "mlflow" in added
    assert added & ours <= {"pip", "setuptools"}  # every new environment has them


def test_check_py_finds_the_same_curves_in_both_dashboards(trained, mlflow):
    done = trained.run(str(mlflow / "bin/python"), "check.py", "--challenge=mlflow")

    assert done.stdout.startswith("PASS 4/4: challenge mlflow ("), done.stdout + done.stderr


def test_the_dashboard_shows_the_curves(url, tmp_path_factory, tmp_path):
    with hold_apt_lock(tmp_path_factory):
        install_browser()
    browser = open_browser(tmp_path / "profile")
    try:
        browser.get(EXPERIMENT.format(url=url))
        shown = wait_until(lambda: browser.execute_script(CURVES), seconds=60)
        picture = take_screenshot(browser, "mlflow", tmp_path)
        text = browser.execute_script("return document.body.innerText")
    finally:
        browser.quit()

    assert shown, text
    assert "1 matching run" in text
    assert len(picture.getcolors(1 << 22)) > 50
