"""Container engines of one's own: dockerd, and podman with its own storage and its API."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
"""What podman as root needs where it may not raise limits."""


def must_run(*argv: str | Path, **env: str) -> str:
    """Run a program that has to succeed; what it printed."""
    done = subprocess.run(
        [str(word) for word in argv],
        capture_output=True,
        text=True,
        env=os.environ | env,
        check=False,
    )
    assert done.returncode == 0, f"{argv}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@contextmanager
def _folder() -> Iterator[Path]:
    # Not below pytest's folder: the path of a socket has 107 bytes at most, podman's run root 50.
    folder = Path(subprocess.check_output(["mktemp", "-d"], text=True).strip())
    try:
        yield folder
    finally:
        mounts = Path("/proc/self/mounts").read_text().splitlines()
        for line in reversed(mounts):
            if (place := line.split()[1]).startswith(f"{folder}/"):
                subprocess.run(["umount", "--lazy", "--quiet", place], check=False)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _server(folder: Path, argv: list[str], is_ready: Callable[[], bool]) -> Iterator[None]:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while not is_ready():
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def run_docker() -> Iterator[str]:
    """A Docker engine without any image; its URL."""
    with _folder() as folder:
        url = f"unix://{folder}/socket"
        argv = [
            *("dockerd", "--host", url, "--data-root", str(folder / "data")),
            *("--exec-root", str(folder / "exec"), "--pidfile", str(folder / "pid")),
            *("--bridge=none", "--iptables=false", "--ip-forward=false"),
        ]
        words = ["docker", "--host", url, "info"]
        with _server(
            folder, argv, lambda: subprocess.run(words, capture_output=True).returncode == 0
        ):
            yield url


@contextmanager
def podman_words() -> Iterator[tuple[str, ...]]:
    """How to call a podman without any image."""
    with _folder() as folder:
        (folder / "config.json").write_text("{}")
        yield (
            *("env", f"DOCKER_CONFIG={folder}", "podman"),
            *("--root", f"{folder}/root", "--runroot", f"{folder}/run"),
            *("--cgroup-manager", "cgroupfs", "--runtime", "runc"),
        )


@contextmanager
def run_podman() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Podman's API on a socket: its URL, and how to call the same podman."""
    with podman_words() as words:
        folder = Path(words[words.index("--root") + 1]).parent
        socket = folder / "socket"
        argv = [*words, "system", "service", "--time", "0", f"unix://{socket}"]
        with _server(folder, argv, socket.exists):
            yield f"unix://{socket}", words


def load(home: Path, name: str, engine: str | tuple[str, ...]) -> None:
    """Let *engine* have our base image ``default`` of the data folder *home*, called *name*."""
    source = f"oci:{home}/oci:base/default"
    if isinstance(engine, str):
        daemon = ("--dest-daemon-host", engine)
        must_run("skopeo", "copy", "--quiet", *daemon, source, f"docker-daemon:{name}")
        return
    with _folder() as folder:
        archive = folder / "archive"
        must_run("skopeo", "copy", "--quiet", source, f"docker-archive:{archive}:{name}")
        must_run(*engine, "load", "--quiet", "--input", archive)
        # Podman calls it localhost/NAME, which it takes for NAME.
