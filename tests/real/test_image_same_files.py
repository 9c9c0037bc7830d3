"""Every engine that takes an image of ours sees the same files: paths, modes, contents, links."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.debian_root import debian_root
from tests.real.test_image_judges import LIMITS, built, docker, podman, registry, run
from tests.support.certificates import make_certificates
from tests.support.registries import run_registry

__all__ = ["built", "docker", "podman", "registry"]

pytestmark = [pytest.mark.real, pytest.mark.slow]

LIST = """
import hashlib, json, os, stat, sys
found = []
for top in ("xm/code", "xm/venv"):
    for folder, folders, names in os.walk(os.path.join(sys.argv[1], top)):
        for name in (*folders, *names):
            path = os.path.join(folder, name)
            about = os.lstat(path)
            shown = os.path.relpath(path, sys.argv[1])
            if stat.S_ISLNK(about.st_mode):
                # Charliecloud makes the absolute ones relative.
                place = os.path.dirname("/" + shown)
                what = os.path.normpath(os.path.join(place, os.readlink(path)))
            elif stat.S_ISREG(about.st_mode):
                with open(path, "rb") as file:
                    what = hashlib.sha256(file.read()).hexdigest()
            else:
                what = "folder"
            # The mode of a link is the system's business.
            mode = 0 if stat.S_ISLNK(about.st_mode) else stat.S_IMODE(about.st_mode)
            found.append([shown, mode, what])
print(json.dumps(sorted(found)))
"""
INSIDE = ("/usr/bin/python3", "-c", LIST, "/")


def listed(said: str) -> list:
    found = json.loads(said)
    assert len(found) > 500
    return found


@pytest.fixture(scope="module")
def expected(built) -> list:
    """What GNU tar makes of the layers, one after the other."""
    root = built.folder / "by-tar"
    root.mkdir()
    for layer in built.image.layers:
        with built.blobs.open(layer.blob.digest) as blob:
            subprocess.run(["tar", "-xzpf", "-", "-C", str(root)], stdin=blob, check=True)
    return listed(run(sys.executable, "-c", LIST, root))


def test_umoci_sees_the_same_files(built, expected):
    run("umoci", "unpack", "--image", built.name.removeprefix("oci:"), built.folder / "by-umoci")

    assert expected == listed(run(sys.executable, "-c", LIST, built.folder / "by-umoci/rootfs"))


def test_podman_sees_the_same_files(built, expected, podman):
    pulled = run(*podman, "pull", "--quiet", built.name).strip()
    said = run(*podman, "run", "--rm", "--network", "none", *LIMITS, pulled, *INSIDE)

    assert expected == listed(said)


def test_docker_sees_the_same_files(built, expected, registry, docker):
    target = f"docker://{registry}/same:t"
    run("skopeo", "copy", "--quiet", "--dest-tls-verify=false", built.name, target)
    name = f"{registry}/same@{built.image.manifest.digest}"
    said = run("docker", "--host", docker, "run", "--rm", "--network", "none", name, *INSIDE)

    assert expected == listed(said)


def test_charliecloud_pulls_by_digest_and_sees_the_same_files(built, expected, tmp_path):
    certificates = make_certificates(tmp_path)
    root = tmp_path / "registry"
    root.mkdir()
    ours = {
        **{name: value for name, value in os.environ.items() if "proxy" not in name.lower()},
        # ch-image runs by the system's Python and speaks TLS only.
        "PATH": "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin",
        "REQUESTS_CA_BUNDLE": str(certificates.ca),
        "CH_IMAGE_STORAGE": str(tmp_path / "storage"),
        "USER": "root",
    }
    with run_registry(root, certificates=certificates) as host:
        target = f"docker://{host}/same:t"
        run("skopeo", "copy", "--quiet", "--dest-tls-verify=false", built.name, target)
        name = f"{host}/same@{built.image.manifest.digest}"
        pull = ["ch-image", "--no-cache", "pull", name]
        subprocess.run(pull, env=ours, check=True, capture_output=True)
    words = ["ch-run", "-s", ours["CH_IMAGE_STORAGE"], "--set-env=/dev/null", name, "--", *INSIDE]
    said = subprocess.run(words, env=ours, check=True, capture_output=True, text=True).stdout

    assert expected == listed(said)


def test_apptainer_builds_from_the_layout_and_sees_the_same_files(built, expected):
    # Its own Debian sees this machine's /tmp only.
    with tempfile.TemporaryDirectory(prefix="xmroot-") as name:
        folder = Path(name)
        run("skopeo", "copy", "--quiet", built.name, f"oci:{folder}/layout:t")
        with debian_root(folder, "sid", "apptainer") as keeper:
            (folder / "root/etc/hosts").write_text("127.0.0.1 localhost\n")
            enter = ("nsenter", f"--mount=/proc/{keeper}/ns/mnt", "env", "-i", "PATH=/usr/bin:/bin")
            sandbox = folder / "sandbox"
            build = ("apptainer", "--quiet", "build", "--sandbox", sandbox, f"oci:{folder}/layout")
            run(*enter, "HOME=/root", *build)
        found = listed(run(sys.executable, "-c", LIST, sandbox))

    assert expected == found
