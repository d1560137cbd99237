"""src/utils/cache_models.sh against a local https server: make test-fast."""

import hashlib
import os
import shutil
import subprocess
import sys

import pytest

from clone import ROOT
from programs import LESSON_9

WEIGHTS = os.urandom(300_000)
NAME = f"resnet18-{hashlib.sha256(WEIGHTS).hexdigest()[:8]}.pth"


class Node:
    """A login node with a checkout, and a Python that returns the URL of the test's weights."""

    def __init__(self, folder, server, trusted):
        self.folder, self.cache = folder, folder / "hub/checkpoints"
        (folder / "src/utils").mkdir(parents=True)
        shutil.copy(LESSON_9 / "src/utils/cache_models.sh", folder / "src/utils")
        shutil.copytree(ROOT / "cluster", folder / "cluster")
        (folder / "env/bin").mkdir(parents=True)
        (folder / "env/bin/activate").write_text(f'PATH="{folder}/env/bin:$PATH"\n')
        python = folder / "env/bin/python"
        python.write_text(f'#!/bin/sh\necho "{self.cache}"\necho https://127.0.0.1:9/{NAME}\n')
        python.chmod(0o755)
        server.files = {NAME: WEIGHTS}
        address = f"https://127.0.0.1:{server.server_port}/good"
        self.env = {"PATH": os.environ["PATH"], "HOME": str(folder), "MODELS_MIRROR": address}
        self.env["CURL_CA_BUNDLE"] = str(trusted)

    def run(self, *args, **env):
        command = ["bash", "src/utils/cache_models.sh", *args]
        pipes = {"capture_output": True, "text": True, "check": False}
        return subprocess.run(command, cwd=self.folder, env={**self.env, **env}, **pipes)


@pytest.fixture
def node(tmp_path, mirror, certificate):
    return Node(tmp_path / "a checkout", mirror, certificate)


def test_weights_arrive_where_torch_hub_looks(node):
    done = node.run()

    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{node.cache}/{NAME}\n"
    assert [path.name for path in node.cache.iterdir()] == [NAME]
    assert (node.cache / NAME).read_bytes() == WEIGHTS


def test_a_site_file_whose_last_test_is_false_does_not_end_the_download(node):
    (node.folder / "site.sh").write_text("[ -d /x ] && export TORCH_HOME=/x\n")

    done = node.run()

    assert (done.returncode, done.stdout) == (0, f"{node.cache}/{NAME}\n"), done.stderr


def test_good_weights_are_not_downloaded_again(node):
    node.run()

    done = node.run(MODELS_MIRROR="https://127.0.0.1:9")

    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{node.cache}/{NAME}\n"


def test_damaged_weights_are_downloaded_again(node):
    node.run()
    (node.cache / NAME).write_bytes(WEIGHTS[:-1])

    done = node.run()

    assert done.returncode == 0, done.stderr
    assert (node.cache / NAME).read_bytes() == WEIGHTS


def test_a_partial_download_resumes_where_it_stopped(node):
    node.cache.mkdir(parents=True)
    (node.cache / f"{NAME}.part").write_bytes(WEIGHTS[:1000])

    done = node.run()

    assert done.returncode == 0, done.stderr
    assert (node.cache / NAME).read_bytes() == WEIGHTS


def test_a_partial_file_that_is_too_long_is_discarded(node):
    node.cache.mkdir(parents=True)
    (node.cache / f"{NAME}.part").write_bytes(b"x" * 400_000)

    done = [node.run(), node.run()]

    assert done[-1].returncode == 0, done[-1].stderr
    assert (node.cache / NAME).read_bytes() == WEIGHTS


def test_unexpected_weights_are_not_kept(node, mirror):
    mirror.files = {NAME: b"x" * 1000}

    done = node.run()

    assert done.returncode == 1
    assert f"{NAME} was discarded: its SHA-256 sum is wrong" in done.stderr
    assert not list(node.cache.iterdir())


def test_missing_internet_is_reported(node):
    done = node.run(MODELS_MIRROR="https://127.0.0.1:9")

    assert done.returncode == 1
    assert f"{NAME} was not downloaded" in done.stderr.splitlines()[-1]
    assert not (node.cache / NAME).exists()


def test_an_insecure_mirror_is_not_used(node):
    done = node.run(MODELS_MIRROR="http://127.0.0.1:9")

    assert done.returncode == 1
    assert not list(node.cache.iterdir())


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        ({"VENV": "nowhere"}, "No Python environment at nowhere"),
        ({"SLURM_JOB_ID": "12"}, "job 12 must not download"),
    ],
)
def test_a_wrong_folder_is_reported(node, env, sentence):
    done = node.run(**env)

    assert done.returncode == 1
    assert sentence in done.stderr


def test_an_unwritable_cache_is_reported(node):
    (node.folder / "hub").write_text("a file")

    done = node.run()

    assert done.returncode == 1
    assert f"cannot write to {node.cache}: set TORCH_HOME" in done.stderr


@pytest.mark.slow
def test_an_unknown_network_is_refused_with_a_list_of_known_ones(node):
    done = node.run("resnet19", VENV=sys.prefix)

    assert done.returncode == 1
    assert "'resnet19' is not a ResNet of torchvision: choose from resnet101" in done.stderr


@pytest.mark.slow
def test_torchvision_names_folder_and_address(node):
    done = node.run("resnet18", VENV=sys.prefix, TORCH_HOME=str(node.folder / "torch home"))

    # the mirror has other weights than torchvision requests
    assert done.returncode == 1
    assert "resnet18-f37072fd.pth was not downloaded" in done.stderr
    assert (node.folder / "torch home/hub/checkpoints").is_dir()
