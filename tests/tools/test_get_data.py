"""data/get_*.sh against an https server on this machine: pytest tests/tools/test_get_data.py."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import os
import random
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from https_mirror import Mirror
from processes import accept_signals

DATA = Path(__file__).resolve().parents[2] / "data"
TOOLS = "awk bash cat cmp df dirname find grep gzip mkdir mv rm rmdir sha256sum tar tr wc wget"
PARTS = [f"{part}-ubyte" for part in ("t10k-images-idx3", "t10k-labels-idx1")]
PARTS += [f"{part}-ubyte" for part in ("train-images-idx3", "train-labels-idx1")]
BATCHES = ["batches.meta", *(f"data_batch_{i}" for i in range(1, 6)), "readme.html", "test_batch"]
FIRST = f"{PARTS[0]}.gz"  # the archive that is downloaded first
SIZE = 100_000

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("openssl", "curl", "wget"))),
    reason="needs openssl, curl and wget",
)


def sums(files: dict[str, bytes]) -> str:
    return "".join(f"{hashlib.sha256(files[f]).hexdigest()}  {f}\n" for f in sorted(files))


def tar_gz(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        top = tarfile.TarInfo("cifar-10-batches-py")
        top.type, top.mode, top.uid = tarfile.DIRTYPE, 0o700, 4321
        tar.addfile(top)
        for name, content in files.items():
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


MNIST = {f"raw/{part}": random.Random(part).randbytes(SIZE) for part in PARTS}
CIFAR10 = {name: random.Random(name).randbytes(SIZE) for name in BATCHES}
ARCHIVES = {f"{part}.gz": gzip.compress(MNIST[f"raw/{part}"], mtime=0) for part in PARTS}
TARBALL = {"cifar-10-python.tar.gz": tar_gz(CIFAR10)}


@pytest.fixture
def mirror(mirror: Mirror) -> Mirror:
    mirror.files = {**ARCHIVES, **TARBALL}
    return mirror


class Checkout:
    """A copy of the scripts that expects this test's small sets."""

    def __init__(self, root: Path, mirror: Mirror, certificate: Path) -> None:
        self.data = root / "my checkout" / "data"
        self.data.mkdir(parents=True)
        for name in ("get_mnist.sh", "get_cifar10.sh", "fetch.sh"):
            shutil.copy(DATA / name, self.data)
        (self.data.parent / "cluster").mkdir()
        shutil.copy(DATA.parent / "cluster/site_env.sh", self.data.parent / "cluster")
        (self.data / "mnist.sha256").write_text(sums(ARCHIVES) + sums(MNIST))
        (self.data / "cifar10.sha256").write_text(sums(TARBALL) + sums(CIFAR10))
        wgetrc = self.data / ".wgetrc"
        wgetrc.write_text(f"ca_certificate = {certificate}\n")
        self.set, self.part = self.data / "MNIST", self.data / ".part-mnist" / FIRST
        self.env = {"PATH": os.environ["PATH"], "HOME": str(self.data)}
        self.env |= {"CURL_CA_BUNDLE": str(certificate), "WGETRC": str(wgetrc)}
        self.use(f"{mirror.url}/good")

    def use(self, *mirrors: str) -> None:
        self.env |= {"MNIST_MIRRORS": " ".join(mirrors), "CIFAR10_MIRRORS": " ".join(mirrors)}

    def command(self, *arguments: object, script: str = "get_mnist.sh") -> list[str]:
        return ["bash", str(self.data / script), *map(str, arguments)]

    def run(self, *arguments: object, **options: str) -> subprocess.CompletedProcess[str]:
        return run(self.command(*arguments, **options), self.env)

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(),
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=accept_signals,
        )


def run(command: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=env, capture_output=True, text=True, cwd="/", timeout=120)


@pytest.fixture
def checkout(tmp_path: Path, mirror: Mirror, certificate: Path) -> Checkout:
    return Checkout(tmp_path, mirror, certificate)


def assert_complete(folder: Path, files: dict[str, bytes] = MNIST) -> None:
    found = {str(p.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}
    assert found.pop("SHA256SUMS").read_text() == sums(files)
    assert {name: path.read_bytes() for name, path in found.items()} == files
    assert not list(folder.parent.glob(".part*"))
    check = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    assert subprocess.run(check, cwd=folder).returncode == 0


def assert_sentence(result: subprocess.CompletedProcess[str], *words: str, code: int = 1) -> None:
    last = result.stderr.splitlines()[-1]
    assert result.returncode == code, result.stderr
    assert all(word in last for word in words), last
    assert ".sh: line" not in result.stderr


def assert_nothing_looks_complete(checkout: Checkout) -> None:
    assert not checkout.set.exists()
    assert not list(checkout.data.rglob("SHA256SUMS"))


def snapshot(folder: Path) -> dict[Path, tuple[int, int]]:
    return {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in [folder, *folder.rglob("*")]}


@pytest.mark.parametrize(
    ("script", "name", "files"),
    [
        ("get_mnist.sh", "MNIST", MNIST),
        ("get_cifar10.sh", "cifar-10-batches-py", CIFAR10),
    ],
)
def test_a_set_is_downloaded_and_a_second_run_changes_nothing(
    checkout: Checkout, mirror: Mirror, script: str, name: str, files: dict[str, bytes]
) -> None:
    first = checkout.run(script=script)
    before, num_requests = snapshot(checkout.data), len(mirror.requests)
    second = checkout.run(script=script)

    assert (first.returncode, first.stderr) == (0, "")
    assert_complete(checkout.data / name, files)
    assert (second.returncode, second.stderr) == (0, "")
    assert "already there" in second.stdout
    assert (snapshot(checkout.data), len(mirror.requests)) == (before, num_requests)


def test_the_committed_sums_name_the_files_of_the_sets() -> None:
    mnist = [line.split("  ")[1] for line in (DATA / "mnist.sha256").read_text().splitlines()]
    cifar10 = [line.split("  ")[1] for line in (DATA / "cifar10.sha256").read_text().splitlines()]

    assert mnist == [*ARCHIVES, *MNIST]
    assert cifar10 == [*TARBALL, *CIFAR10]


@pytest.mark.parametrize("how", ["argument", "environment", "site.sh"])
def test_a_folder_with_a_space_can_be_named(checkout: Checkout, tmp_path: Path, how: str) -> None:
    folder = tmp_path / "shared data"
    if how == "environment":
        checkout.env["DATA_DIR"] = str(folder)
    elif how == "site.sh":
        site = f'[ "$UNSET" ]\nfalse\nexport DATA_DIR="{folder}"\n'
        (checkout.data.parent / "site.sh").write_text(site)

    result = checkout.run(*[folder] if how == "argument" else [])

    assert result.returncode == 0, result.stderr
    assert_complete(folder / "MNIST")


def test_a_site_file_that_exits_does_not_look_like_a_download(checkout: Checkout) -> None:
    (checkout.data.parent / "site.sh").write_text("exit 0\n")

    result = checkout.run()

    assert_sentence(result, "site.sh has ended this script: ", "remove the exit from site.sh")
    assert_nothing_looks_complete(checkout)


@pytest.mark.parametrize("tool", ["curl", "wget"])
def test_a_cut_connection_is_resumed(
    checkout: Checkout, mirror: Mirror, tmp_path: Path, tool: str
) -> None:
    if tool == "wget":
        checkout.env["PATH"] = str(only_tools(tmp_path, TOOLS))
    mirror.cuts = [SIZE // 2, SIZE // 4]

    first = checkout.run()
    second = checkout.run()

    got = [(asked, sent) for path, asked, sent in mirror.requests if path.endswith(FIRST)]
    assert first.returncode == 0, first.stderr
    assert got[1][0] == f"bytes={SIZE // 2}-"
    assert got[2][0] == f"bytes={SIZE // 2 + SIZE // 4}-"
    assert sum(sent for _, sent in got) == len(ARCHIVES[FIRST])
    assert "already there" in second.stdout
    assert_complete(checkout.set)


def test_a_server_without_ranges_is_asked_for_the_whole_file(
    checkout: Checkout, mirror: Mirror
) -> None:
    checkout.use(f"{mirror.url}/whole")
    mirror.cuts = [SIZE // 2]

    result = checkout.run()

    assert result.returncode == 0, result.stderr
    assert_complete(checkout.set)


@pytest.mark.parametrize("length", [100, SIZE * 2])
@pytest.mark.parametrize("tool", ["curl", "wget"])
def test_a_wrong_partial_file_is_downloaded_again(
    checkout: Checkout, tmp_path: Path, length: int, tool: str
) -> None:
    if tool == "wget":
        checkout.env["PATH"] = str(only_tools(tmp_path, TOOLS))
    checkout.part.parent.mkdir()
    checkout.part.write_bytes(b"x" * length)

    result = checkout.run()

    assert result.returncode == 0, result.stderr
    assert_complete(checkout.set)


def test_a_wrong_file_from_the_first_mirror_is_replaced_by_the_second(
    checkout: Checkout, mirror: Mirror
) -> None:
    checkout.use(f"{mirror.url}/bad", f"{mirror.url}/missing/", f"{mirror.url}/good/")

    result = checkout.run()

    assert result.returncode == 0
    assert f"{FIRST}: its SHA-256 sum is wrong" in result.stderr
    assert_complete(checkout.set)


def test_wrong_sums_everywhere_leave_nothing(checkout: Checkout, mirror: Mirror) -> None:
    checkout.use(f"{mirror.url}/bad", f"{mirror.url}/bad")

    result = checkout.run()

    assert_sentence(result, FIRST, f"none of {mirror.url}/bad", "get_mnist.sh")
    assert_nothing_looks_complete(checkout)
    assert not list(checkout.data.glob(".part*"))


def test_a_wrong_archive_is_never_unpacked(checkout: Checkout, mirror: Mirror) -> None:
    mirror.files = {"cifar-10-python.tar.gz": tar_gz({**CIFAR10, "../../escaped": b"x"})}

    result = checkout.run(script="get_cifar10.sh")

    assert_sentence(result, "cifar-10-python.tar.gz", "get_cifar10.sh")
    assert not list(checkout.data.rglob("*batch*"))


def test_a_missing_network_is_reported_soon_and_names_the_sample(
    checkout: Checkout, mirror: Mirror
) -> None:
    mirror.shutdown()
    mirror.server_close()

    start = time.monotonic()
    result = checkout.run()

    assert time.monotonic() - start < 5
    assert_sentence(result, FIRST, "node with internet", "python data/make_sample.py")
    assert_nothing_looks_complete(checkout)
    assert not list(checkout.data.glob(".part*"))


@pytest.mark.parametrize("size_kb", [48, 256, 500])
def test_a_full_disk_is_reported_and_the_next_run_succeeds(
    checkout: Checkout, tmp_path: Path, size_kb: int
) -> None:
    disk = tmp_path / "small disk"
    disk.mkdir()

    with mounted(disk, size_kb):
        result = checkout.run(disk)
        left = [path.name for path in disk.iterdir() if not path.name.startswith(".part")]
        subprocess.run(["mount", "-o", "remount,size=2m", str(disk)], check=True)
        second = checkout.run(disk)

        assert_sentence(result, str(disk), "MB free", "70 MB", "free some space")
        assert left == []
        assert second.returncode == 0, second.stderr
        assert_complete(disk / "MNIST")


@contextlib.contextmanager
def mounted(disk: Path, size_kb: int) -> Iterator[None]:
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_kb}k", "tmpfs", str(disk)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("cannot mount a small tmpfs: needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_read_only_folder_is_reported(mirror: Mirror, certificate: Path) -> None:
    # outside pytest's own folder, which an ordinary user cannot enter
    with tempfile.TemporaryDirectory() as root:
        Path(root).chmod(0o755)
        checkout = Checkout(Path(root), mirror, certificate)
        checkout.data.chmod(0o555)
        ordinary = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        prefix = ordinary if os.geteuid() == 0 else []

        result = run([*prefix, *checkout.command()], checkout.env)
        deeper = run([*prefix, *checkout.command(checkout.data / "new")], checkout.env)
        checkout.data.chmod(0o755)

        assert_sentence(result, str(checkout.data), "cannot be written", "you can write to")
        assert_sentence(deeper, "new cannot be written", "you can write to")
        assert_nothing_looks_complete(checkout)


def test_a_complete_set_in_a_read_only_folder_is_enough(mirror: Mirror, certificate: Path) -> None:
    with tempfile.TemporaryDirectory() as root:
        Path(root).chmod(0o755)
        checkout = Checkout(Path(root), mirror, certificate)
        checkout.run()
        checkout.data.chmod(0o555)

        result = checkout.run()
        checkout.data.chmod(0o755)

        assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_killed_run_leaves_nothing_that_looks_complete_and_is_resumed(
    checkout: Checkout, mirror: Mirror, number: signal.Signals
) -> None:
    mirror.hold_at = SIZE // 2
    process = checkout.start()
    wait_for_part(checkout, mirror)

    os.killpg(process.pid, number)
    _, stderr = process.communicate(timeout=60)
    killed = snapshot(checkout.data)
    num_bytes = checkout.part.stat().st_size
    mirror.released.set()
    second = checkout.run()

    if number == signal.SIGKILL:
        assert process.returncode == -9
    else:
        assert process.returncode == 128 + number
        assert stderr.endswith(" to resume\n")
        assert (checkout.data / ".part-mnist.lock") not in killed
    assert checkout.set not in killed
    assert second.returncode == 0, second.stderr
    assert mirror.requests[1][1:] == (f"bytes={num_bytes}-", len(ARCHIVES[FIRST]) - num_bytes)
    assert_complete(checkout.set)


def wait_for_part(checkout: Checkout, mirror: Mirror) -> None:
    assert mirror.held.wait(60)
    deadline = time.monotonic() + 60
    # curl buffers up to 16 KiB
    while not (checkout.part.exists() and checkout.part.stat().st_size >= SIZE // 2 - 16384):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_term_for_the_script_alone_ends_its_download_too(
    checkout: Checkout, mirror: Mirror
) -> None:
    mirror.hold_at = SIZE // 2
    process = checkout.start()
    wait_for_part(checkout, mirror)

    process.terminate()
    process.communicate(timeout=60)

    assert process.returncode == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_a_download_that_outlives_its_script_keeps_the_lock(
    checkout: Checkout, mirror: Mirror
) -> None:
    mirror.hold_at = SIZE // 2
    process = checkout.start()
    wait_for_part(checkout, mirror)

    process.kill()
    process.wait(60)
    busy = checkout.run()
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    third = checkout.run()

    assert_sentence(busy, "another run", str(process.pid), "wait for it", ".part-mnist.lock")
    assert third.returncode == 0, third.stderr
    assert_complete(checkout.set)


@pytest.mark.parametrize("step", ["gzip", "mv"])
def test_a_kill_while_the_set_is_built_leaves_no_set(
    checkout: Checkout, mirror: Mirror, tmp_path: Path, step: str
) -> None:
    stub = tmp_path / "bin" / step
    stub.parent.mkdir()
    stub.write_text("#!/bin/sh\nkill -9 $PPID\n")
    stub.chmod(0o755)
    whole_path = checkout.env["PATH"]
    checkout.env["PATH"] = f"{stub.parent}:{whole_path}"

    killed = checkout.run()
    exists = checkout.set.exists()
    checkout.env["PATH"] = whole_path
    second = checkout.run()

    assert killed.returncode == -9
    assert not exists
    assert second.returncode == 0, second.stderr
    assert len(mirror.requests) == len(ARCHIVES)
    assert_complete(checkout.set)


def test_the_sample_is_replaced_with_a_message(checkout: Checkout) -> None:
    (checkout.set / "raw").mkdir(parents=True)
    (checkout.set / "SHA256SUMS").write_text("# sample: 10 digits\n")

    result = checkout.run()

    assert result.returncode == 0, result.stderr
    assert "MNIST is the sample: replaced by the full set" in result.stdout
    assert_complete(checkout.set)
    assert not list(checkout.data.glob("*damaged*"))


def test_the_sample_stays_if_nothing_can_be_downloaded(checkout: Checkout, mirror: Mirror) -> None:
    checkout.use(f"{mirror.url}/bad")
    checkout.set.mkdir()
    (checkout.set / "SHA256SUMS").write_text("# sample: 10 digits\n")

    result = checkout.run()

    assert_sentence(result, "none of https://")
    assert (checkout.set / "SHA256SUMS").read_text() == "# sample: 10 digits\n"


@pytest.mark.parametrize("damage", ["flipped", "short list", "no list", "unknown file", "empty"])
def test_a_damaged_set_is_kept_aside(checkout: Checkout, damage: str) -> None:
    checkout.run()
    listed = (checkout.set / "SHA256SUMS").read_text().splitlines(keepends=True)
    (checkout.data / "MNIST.damaged-1").mkdir()
    if damage == "flipped":
        (checkout.set / "raw" / PARTS[0]).write_bytes(b"y" * SIZE)
    elif damage == "short list":
        (checkout.set / "SHA256SUMS").write_text(listed[0])
    elif damage == "no list":
        (checkout.set / "SHA256SUMS").unlink()
    elif damage == "unknown file":
        (checkout.set / "raw" / "notes").touch()
    else:
        shutil.rmtree(checkout.set)
        checkout.set.mkdir()
    before = {path.relative_to(checkout.set) for path in checkout.set.rglob("*")}

    result = checkout.run()

    aside = checkout.data / "MNIST.damaged-2"
    assert result.returncode == 0, result.stderr
    assert f"MNIST is damaged: kept as {aside}" in result.stdout
    assert {path.relative_to(aside) for path in aside.rglob("*")} == before
    assert_complete(checkout.set)


def test_a_complete_set_with_other_sums_is_kept_and_noted(checkout: Checkout) -> None:
    files = {name: content[::-1] for name, content in MNIST.items()}
    (checkout.set / "raw").mkdir(parents=True)
    for name, content in files.items():
        (checkout.set / name).write_bytes(content)
    (checkout.set / "SHA256SUMS").write_text(sums(files))

    result = checkout.run()

    assert result.returncode == 0
    assert "note: its sums differ from those of the original" in result.stdout
    assert_complete(checkout.set, files)


def test_downloads_in_a_job_are_refused(checkout: Checkout, mirror: Mirror) -> None:
    checkout.env["SLURM_JOB_ID"] = "7"

    result = checkout.run()

    assert_sentence(result, "job 7", "node with internet")
    assert mirror.requests == []


def test_a_second_run_at_the_same_time_is_refused(checkout: Checkout, mirror: Mirror) -> None:
    mirror.hold_at = SIZE // 2
    first = checkout.start()
    wait_for_part(checkout, mirror)

    second = checkout.run()
    mirror.released.set()
    first.communicate(timeout=60)

    assert_sentence(second, "another run", str(first.pid), "wait for it")
    assert first.returncode == 0
    assert_complete(checkout.set)


def test_runs_started_together_leave_one_complete_set(checkout: Checkout) -> None:
    processes = [checkout.start() for _ in range(4)]

    errors = [process.communicate(timeout=60)[1] for process in processes]

    codes = [process.returncode for process in processes]
    assert 0 in codes
    assert set(codes) <= {0, 1}
    assert all("another run" in e for e, c in zip(errors, codes, strict=True) if c == 1)
    assert_complete(checkout.set)


def test_only_one_of_many_takes_over_the_lock_of_a_dead_run(checkout: Checkout) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    lock = checkout.data / ".part-mnist.lock"
    lock.mkdir()
    name = subprocess.check_output(["bash", "-c", "echo $HOSTNAME"], text=True).strip()
    (lock / "owner").write_text(f"{name} {dead.pid} {dead.pid}\n")
    processes = [checkout.start() for _ in range(4)]

    for process in processes:
        process.communicate(timeout=60)

    assert 0 in [process.returncode for process in processes]
    assert_complete(checkout.set)


def test_the_lock_of_another_host_is_respected(checkout: Checkout) -> None:
    lock = checkout.data / ".part-mnist.lock"
    lock.mkdir()
    (lock / "owner").write_text("elsewhere 1 \n")

    result = checkout.run()

    assert_sentence(result, "elsewhere 1", f"delete {lock}")
    assert lock.exists()


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "file:///tmp", "127.0.0.1", "ftp://x"])
def test_a_mirror_without_https_is_refused(checkout: Checkout, url: str) -> None:
    checkout.use("https://127.0.0.1:1", url)

    result = checkout.run()

    assert_sentence(result, url, "https://", "MNIST_MIRRORS", code=2)


def test_blank_mirrors_are_refused(checkout: Checkout) -> None:
    checkout.use("", "")

    result = checkout.run()

    assert_sentence(result, "MNIST_MIRRORS is blank", "https://", "unset", code=2)


def test_a_redirect_to_http_is_not_followed(checkout: Checkout, mirror: Mirror) -> None:
    checkout.use(f"{mirror.url}/plain")

    result = checkout.run()

    assert_sentence(result, FIRST, "none of https://")
    assert "http" in result.stderr


def test_a_server_with_an_unknown_certificate_is_refused(checkout: Checkout) -> None:
    del checkout.env["CURL_CA_BUNDLE"]

    result = checkout.run()

    assert_sentence(result, FIRST, "none of https://")


def only_tools(tmp_path: Path, tools: str) -> Path:
    folder = tmp_path / "few tools"
    folder.mkdir()
    for tool in tools.split():
        (folder / tool).symlink_to(str(shutil.which(tool)))
    return folder


def test_wget_is_used_if_curl_is_missing(checkout: Checkout, tmp_path: Path) -> None:
    checkout.env["PATH"] = str(only_tools(tmp_path, TOOLS))

    result = checkout.run()

    assert result.returncode == 0, result.stderr
    assert_complete(checkout.set)


def test_a_lack_of_curl_and_wget_is_reported(checkout: Checkout, tmp_path: Path) -> None:
    checkout.env["PATH"] = str(only_tools(tmp_path, TOOLS.removesuffix("wget")))

    result = checkout.run()

    assert_sentence(result, "neither curl nor wget", "load a module")
    assert_nothing_looks_complete(checkout)


@pytest.mark.parametrize("arguments", [["--faster"], ["one", "two"]])
def test_a_wrong_command_line_is_refused(checkout: Checkout, arguments: list[str]) -> None:
    result = checkout.run(*arguments)

    assert_sentence(result, "folder", code=2)


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_is_printed(checkout: Checkout, option: str) -> None:
    result = checkout.run(option)

    assert result.returncode == 0
    assert result.stdout.startswith("usage: bash data/get_mnist.sh [folder]")
