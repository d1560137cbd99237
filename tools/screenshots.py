"""Take the pictures of TensorBoard's tabs, in light and dark: make screenshots

Two runs of lesson 5 on the sample are shown in Chromium, as docs/lessons/5.md describes.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

# both from tests/helpers, which make adds to the path
import chromium
import tensorboard_tabs

ROOT = Path(__file__).resolve().parents[1]
SCHEMES = {"light": "", "dark": "-dark"}
SHARPNESS = 2  # pixels of a picture per pixel of the page
COLOURS = 128


@dataclass(frozen=True)
class Shot:
    """What a picture shows: a part of a tab, in pixels of the page."""

    tab: str
    part: str  # JavaScript: is the element e the part?
    runs: str = "one"
    before: str = ""  # JavaScript: what to click first
    window: tuple[int, int] = (1240, 1500)
    width: int = 1000
    height: int = 1000


ONLY_OPTIMIZER = """
for (const box of seen.filter(e => /(hparam|metric)-checkbox/.test(e.className)))
  if (['optimizer', 'hp/test_acc'].includes(box.textContent.trim()) !== box.checked) box.click()"""
NIGHT_MODE = "if (dark) seen.find(e => e.id === 'nightDayMode').click()"
SHOTS = {
    "scalars": Shot(
        "timeseries", "e.matches('card-view') && e.textContent.includes('val_acc')", "two"
    ),
    "images": Shot("images", "e.matches('tf-image-loader')"),
    "graphs": Shot("graphs", "e.id === 'svg'", window=(680, 380), width=280),
    "histograms": Shot(
        "histograms", "e.matches('tf-histogram-loader') && e.tag.endsWith('network.1.weight')"
    ),
    "pr-curves": Shot("pr_curves", "e.matches('tf-pr-curve-card') && e.tag.endsWith('1 - one')"),
    "projector": Shot(
        "projector", "e.id === 'scatter'", before=NIGHT_MODE, window=(1050, 560), height=440
    ),
    "hparams": Shot(
        "hparams", "e.id === 'table'", "two", ONLY_OPTIMIZER, (800, 1000), width=536, height=130
    ),
    "text": Shot("text", "e.matches('tf-text-loader')", width=360, height=264),
}


def run_lesson_5(folder: Path) -> None:
    """Train twice with the sample, and copy the first run, and both, into folders one and two."""
    lesson, lessons = folder / "lesson", f"{ROOT}/tools/lessons.py"
    subprocess.run([sys.executable, lessons, "export", "5", lesson], check=True)
    subprocess.run([sys.executable, "data/make_sample.py"], cwd=lesson, check=True)
    command = [sys.executable, "run.py", "--local", "--experiment_name=metrics", "--data_dir=data"]
    for more in ([], ["--optimizer=SGD", "--learning_rate=0.02"]):
        subprocess.run([*command, *more], cwd=lesson, check=True)
    runs = lesson / "logs/metrics"
    shutil.copytree(runs, folder / "two/metrics")
    shutil.copytree(runs / "version_0", folder / "one/metrics/version_0")


@contextmanager
def browser(profile: Path) -> Iterator[Any]:
    driver = chromium.open_browser(profile)
    yield driver
    driver.quit()


def take(driver: Any, server: Any, shot: Shot, scheme: str) -> Image.Image:
    """Return the part of a tab that a picture shows."""
    size = dict(zip(("width", "height"), shot.window, strict=True))
    size |= {"deviceScaleFactor": SHARPNESS, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    tensorboard_tabs.open_tab(driver, server, shot.tab)
    script = f"{tensorboard_tabs.SEEN} const dark = {str(scheme == 'dark').lower()};"
    driver.execute_script(script + shot.before)
    with tempfile.TemporaryDirectory() as folder:
        page: Image.Image = chromium.take_screenshot(driver, shot.tab, Path(folder))
    box = f"const box = seen.find(e => {shot.part}).getBoundingClientRect();"
    x, y, width, height = driver.execute_script(
        f"{script}{box} return [box.left, box.top, box.width, box.height]"
    )
    right, bottom = x + min(width, shot.width), y + min(height, shot.height)
    left, top, right, bottom = (round(SHARPNESS * edge) for edge in (x, y, right, bottom))
    return page.crop((left, top, right, bottom))


def save(picture: Image.Image, path: Path) -> None:
    picture.quantize(COLOURS).save(path, optimize=True)
    print(f"{path}: {picture.width // SHARPNESS} pixels wide, {path.stat().st_size // 1000} kB")


def main() -> None:
    with tempfile.TemporaryDirectory() as name, browser(Path(name, "profile")) as driver:
        run_lesson_5(Path(name))
        for runs in ("one", "two"):
            with tensorboard_tabs.tensorboard(Path(name, runs)) as server:
                for stem, shot in SHOTS.items():
                    for scheme, end in SCHEMES.items() if shot.runs == runs else ():
                        picture = take(driver, server, shot, scheme)
                        save(picture, ROOT / f".img/tensorboard-{stem}{end}.png")


if __name__ == "__main__":
    main()
