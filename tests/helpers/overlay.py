"""An environment on top of the tests' own one, for packages that only one test needs."""

import subprocess
import sys
import sysconfig
from pathlib import Path

from clone import ROOT


def overlay_environment(folder, requirements):
    """Create an environment that reuses the tests' packages, and return its folder."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    # Python looks in the tests' own environment second, so pip installs only what differs
    (site_packages(folder) / "base.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = str(folder / "bin/python")
    install = [python, "-m", "pip", "install", "--quiet", "-r", str(ROOT / requirements)]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def site_packages(folder):
    command = [
        str(folder / "bin/python"),
        "-c",
        "import sysconfig as s; print(s.get_path('purelib'))",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Path(done.stdout.strip())
