"""Base images from a Dockerfile, by a real Docker engine, one digest each time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import Cli

pytestmark = pytest.mark.slow

DOCKERFILE = """\
FROM lab/base:1 AS tools
RUN mkdir -p /opt/tools && date > /opt/tools/when

FROM lab/base:1
ARG SOURCE_DATE_EPOCH
ENV GREETING=hello
LABEL kind=test
COPY --chown=1000:1000 data/ /srv/data/
COPY run.sh /usr/local/bin/
RUN printf 'one\\n' > /srv/b && printf 'two\\n' > /srv/a && ln /srv/a /srv/hard \\
 && ln -s a /srv/soft && chmod 4755 /srv/b && date > /var/log/dpkg.log \\
 && rm /usr/share/base-files/motd && chmod 1777 /srv
RUN printf 'def f(): pass\\n' > /srv/mod.py && python3 -m compileall -q /srv \\
 && python3 -c "open('/srv/size','w').write(str(len(open('/srv/data/x').read())))"
USER 1000
CMD ["/usr/local/bin/run.sh"]
"""
FILES = {
    "Dockerfile": DOCKERFILE,
    ".dockerignore": "# a comment\n**/*.md\nsecret\n",
    "data/x": "12345",
    "data/secret.md": "",
    "run.sh": "#!/bin/sh\necho $GREETING\n",
    "README.md": "",
    "secret": "",
    ".gitignore": "ignored\n",
}


def run(*argv: str | Path, **env: str) -> str:
    done = subprocess.run(
        [str(word) for word in argv],
        capture_output=True,
        text=True,
        env=os.environ | env,
        check=False,
    )
    assert done.returncode == 0, f"{argv}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def docker(base_home) -> Iterator[str]:
    """A Docker engine of our own that holds our base as ``lab/base:1``; its URL."""
    # Not below pytest's folder: the path of a socket has 107 bytes at most.
    folder = Path(subprocess.check_output(["mktemp", "-d"], text=True).strip())
    url = f"unix://{folder}/socket"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                *("dockerd", "--host", url, "--data-root", str(folder / "data")),
                *("--exec-root", str(folder / "exec"), "--pidfile", str(folder / "pid")),
                *("--bridge=none", "--iptables=false", "--ip-forward=false"),
            ],
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + 40
        while subprocess.run(["docker", "--host", url, "info"], capture_output=True).returncode:
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.2)
        run(
            *("skopeo", "copy", "--quiet", "--dest-daemon-host", url),
            *(f"oci:{base_home}/oci:base/default", "docker-daemon:lab/base:1"),
        )
        yield url
    finally:
        process.terminate()
        process.wait(30)
        subprocess.run(["umount", "--recursive", "--quiet", str(folder / "exec")], check=False)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def lab(make_cli, docker):
    """``lab(files)``: a project that builds with the engine."""

    def make(files: dict[str, str]) -> Cli:
        cli = make_cli(files)
        cli.env["DOCKER_HOST"] = docker
        (cli.folder / "ignored").write_text("what git ignores")
        return cli

    return make


BUILD = ("base", "build", "--name", "lab", "--network", "none")


def test_two_builds_of_a_dockerfile_give_one_digest(lab, docker):
    one, two = lab(FILES), lab(dict(reversed(FILES.items())))
    os.utime(two.folder / "data/x", (1e9, 1e9))
    first = one.json(*BUILD, "--no-cache")
    time.sleep(1.1)
    second = two.json(*BUILD, "--no-cache")

    assert first == second
    ids = run(
        "docker", "--host", docker, "images", "--all", "--quiet", "--filter", "label=kind=test"
    )
    assert len(set(ids.split())) > 1  # which the engine itself names otherwise each time
    assert first == two.json(*BUILD)


def test_an_image_from_a_dockerfile_holds_what_its_steps_made(lab, base_home, tmp_path):
    cli = lab(FILES)
    built = cli.json(*BUILD)
    layout = cli.home / "oci"
    config = json.loads(run("skopeo", "inspect", "--config", f"oci:{layout}:base/lab"))
    below = json.loads(run("skopeo", "inspect", f"oci:{base_home}/oci:base/default"))
    about = json.loads(run("skopeo", "inspect", f"oci:{layout}:base/lab"))
    run("umoci", "unpack", "--image", f"{layout}:base/lab", tmp_path / "bundle")
    root = tmp_path / "bundle" / "rootfs"

    assert built["digest"] == about["Digest"]
    assert below["Layers"] == about["Layers"][: len(below["Layers"])]
    assert "1970-01-01T00:00:01Z" == config["created"]
    assert {"1970-01-01T00:00:01Z"} == {entry["created"] for entry in config["history"]}
    assert "GREETING=hello" in config["config"]["Env"]
    assert ["/usr/local/bin/run.sh"] == config["config"]["Cmd"]
    assert ["x"] == sorted(os.listdir(root / "srv/data"))
    assert (1000, 1000) == (
        (root / "srv/data/x").stat().st_uid,
        (root / "srv/data/x").stat().st_gid,
    )
    assert (root / "srv/hard").stat().st_ino == (root / "srv/a").stat().st_ino
    assert "a" == os.readlink(root / "srv/soft")
    assert (0o4755, 0o1777) == (
        (root / "srv/b").stat().st_mode & 0o7777,
        (root / "srv").stat().st_mode & 0o7777,
    )
    assert not (root / "usr/share/base-files/motd").exists()
    assert (root / "usr/share/base-files").is_dir()
    assert not (root / "srv/__pycache__/mod.cpython-311.pyc").exists()
    assert not (root / "var/log/dpkg.log").exists()
    assert 1 == (root / "srv/a").stat().st_mtime


def test_a_job_runs_on_a_base_from_a_dockerfile(lab):
    cli = lab({**FILES, "main.py": "print(open('/srv/size').read())\n"})
    (cli.folder / "run.sh").chmod(0o755)
    cli.run(*BUILD)
    cli.launch("sh", "-c", "python main.py; run.sh", options=("--wait", "--base", "lab"))

    assert "5\nhello\n" == cli.run("logs").stdout


def test_a_context_may_be_a_folder_and_the_dockerfile_another(lab):
    cli = lab({"sub/D": "FROM scratch\nCOPY f /f\n", "sub/f": "x", "f": "other"})
    one = cli.json("base", "build", "--name", "s", "--context", "sub", "--file", "D")
    (cli.folder / "f").write_text("another, outside the context")
    two = cli.json("base", "build", "--name", "s", "--context", "sub", "--file", "D", "--no-cache")

    assert one["digest"] == two["digest"]
    assert one["snapshot"] != two["snapshot"]
    assert one["target"] is None


def test_a_step_that_fails_shows_what_it_said(lab):
    cli = lab({"Dockerfile": "FROM lab/base:1\nRUN echo so far so good && false\n"})
    done = cli.run(*BUILD, status=22)

    assert "error: Dockerfile cannot be built: The command" in done.stderr
    assert "so far so good" in done.stderr
    assert "lab" not in cli.json("base", "list")


def test_what_cannot_be_built_is_refused_with_a_hint(lab):
    cli = lab({"main.py": ""})
    (cli.folder / ".gitignore").write_text("Dockerfile\n")
    (cli.folder / "Dockerfile").write_text("FROM scratch\n")

    assert "the snapshot has no Dockerfile" in cli.run(*BUILD, status=2).stderr
    assert "there is no folder nowhere" in cli.run(*BUILD, "--context", "nowhere", status=2).stderr
    (cli.folder / ".gitignore").unlink()
    cli.env["DOCKER_HOST"] = "unix:///nowhere/docker.sock"
    assert "DOCKER_HOST" in cli.run(*BUILD, status=16).stderr
