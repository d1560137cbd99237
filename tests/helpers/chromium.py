"""Chromium without a window, for tests that look at a page."""

import io
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from PIL import Image
from selenium import webdriver

PACKAGES = {"chromium": "/usr/bin/chromium", "chromium-driver": "/usr/bin/chromedriver"}
FLAGS = [
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-first-run"),
]
# high enough for a whole page, since dashboards draw only what is visible
WINDOW = (1200, 2400)


def install_browser():
    missing = [name for name, program in PACKAGES.items() if not Path(program).exists()]
    if missing and (os.geteuid() or not shutil.which("apt-get")):
        pytest.skip(f"needs the packages {' and '.join(missing)}: apt-get install them as root")
    if missing:
        command = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        if subprocess.run(command, env=env, capture_output=True).returncode:
            subprocess.run(["apt-get", "update"], env=env, capture_output=True, check=True)
            subprocess.run(command, env=env, capture_output=True, check=True)


def open_browser(profile):
    """Return a driver of a new Chromium, which keeps its data in a folder."""
    options = webdriver.ChromeOptions()
    options.binary_location = PACKAGES["chromium"]
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    # for get_log("performance"): what the pages request
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # the path, so that Selenium downloads none
    driver = webdriver.Chrome(
        options=options, service=webdriver.ChromeService(PACKAGES["chromium-driver"])
    )
    driver.set_window_size(*WINDOW)
    return driver


def wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < end:
        time.sleep(0.2)
    return met


def take_screenshot(browser, name, folder):
    """Return a picture of the page once it no longer changes."""
    shots = [browser.get_screenshot_as_png()]

    def still():
        time.sleep(0.5)
        shots.append(browser.get_screenshot_as_png())
        return shots[-1] == shots[-2]

    wait_until(still, seconds=10)
    folder = Path(os.environ.get("SCREENSHOTS", folder))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.png").write_bytes(shots[-1])
    return Image.open(io.BytesIO(shots[-1])).convert("RGB")
