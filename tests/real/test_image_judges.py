"""Images of ours in the hands of other programs: they must take them and name the same digests."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.unit.image_parts import SITE, DictTree, oracle
from xmslurm_repro.image.bases import Bases
from xmslurm_repro.image.build import Builder
from xmslurm_repro.model.image import LAYOUT, BaseImage, Image, LayerKind, Recipe
from xmslurm_repro.model.lock import Artifact
from xmslurm_repro.ports.progress import SilentProgress
from xmslurm_repro.store.layout import DiskBlobStore

pytestmark = [pytest.mark.real, pytest.mark.slow]

PORT = 21010
TRAIN = b"""
import os, sys
import numpy, rich, helper
assert sys.prefix == "/xm/venv", sys.prefix
assert os.path.realpath(sys.executable) == "/usr/bin/python3.11", sys.executable
assert "/xm/code/src" in sys.path
print("sum", int(numpy.arange(10).sum()), helper.name)
"""
CODE = {
    "train.py": TRAIN,
    "src/helper.py": b"name = 'helper'\n",
    "*run.sh": b"#!/bin/sh\nexec python train.py\n",
    "@link": b"train.py",
    "data/größe.bin": hashlib.shake_128(b"data").digest(1_500_000),
}
LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
SAID = "sum 45 helper\n"


@dataclass(frozen=True)
class Built:
    folder: Path
    blobs: DiskBlobStore
    base: BaseImage
    image: Image
    wheels: tuple[Path, ...]

    @property
    def name(self) -> str:
        """The image in skopeo's words."""
        return f"oci:{self.folder}/oci:xms-{self.image.config.digest.hex[:32]}"


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
def built(tmp_path_factory) -> Iterator[Built]:
    folder = tmp_path_factory.mktemp("judges")
    blobs = DiskBlobStore(folder / "oci")
    bases = Bases(blobs, no_registry, work_dir=folder / "work", cache_dir=folder / "cache")
    base = bases.create(
        name="default", suite="bookworm", packages=(), mirror=None, progress=SilentProgress()
    )
    run(
        *("uv", "tool", "run", "pip", "download", "--quiet", "--only-binary", ":all:"),
        *("--python-version", "3.11", "--platform", "manylinux2014_x86_64"),
        *("--platform", "manylinux_2_28_x86_64", "--dest", folder / "wheels", "numpy", "rich"),
    )
    wheels = tuple(sorted((folder / "wheels").glob("*.whl")))
    tree = DictTree(CODE)
    recipe = Recipe(
        layout=LAYOUT,
        base=base.manifest.digest,
        base_reference="default",
        target=base.target,
        artifacts=tuple(
            Artifact(
                name=wheel.name.split("-")[0].lower(),
                version=wheel.name.split("-")[1],
                filename=wheel.name,
                sha256=blobs.put(wheel.read_bytes()),
            )
            for wheel in wheels
        ),
        snapshot=tree.root,
    )
    image = Builder(blobs, folder / "cache").build(recipe, base, tree, SilentProgress())
    yield Built(folder=folder, blobs=blobs, base=base, image=image, wheels=wheels)
    shutil.rmtree(folder)


def no_registry(reference, architecture, progress):
    raise AssertionError(f"asked a registry for {reference}")


@pytest.fixture(scope="module")
def unpacked(built) -> Path:
    """The image's root, unpacked by umoci."""
    run("umoci", "unpack", "--image", built.name.removeprefix("oci:"), built.folder / "bundle")
    return built.folder / "bundle" / "rootfs"


def test_real_wheels_are_laid_out_as_the_installer_library_does(built):
    want = {
        path: expected
        for wheel in built.wheels
        for path, expected in oracle(wheel.read_bytes(), wheel.name).items()
    }
    found = {}
    for layer in built.image.layers:
        if layer.kind is LayerKind.PACKAGES:
            with (
                built.blobs.open(layer.blob.digest) as blob,
                tarfile.open(fileobj=blob, mode="r:gz") as archive,
            ):
                for member in archive:
                    if member.isfile():
                        data = archive.extractfile(member).read()
                        found[member.name] = (data, bool(member.mode & 0o100))

    ours = {"xm/venv/pyvenv.cfg", f"{SITE}/__xmslurm_code__.pth"}
    assert set(want) == set(found) - ours
    for path, (data, executable) in want.items():
        assert executable == found[path][1], path
        assert data is None or data == found[path][0], path


def test_skopeo_copies_the_image_without_changing_a_digest(built):
    run("skopeo", "copy", "--quiet", built.name, f"oci:{built.folder}/copy:image")
    raw = run("skopeo", "inspect", "--raw", f"oci:{built.folder}/copy:image")
    inspected = json.loads(run("skopeo", "inspect", built.name))

    assert built.image.manifest.digest.hex == hashlib.sha256(raw.encode()).hexdigest()
    assert str(built.image.manifest.digest) == inspected["Digest"]
    assert [str(layer.blob.digest) for layer in built.image.layers] == inspected["Layers"]


def test_skopeo_reads_our_config(built):
    config = json.loads(run("skopeo", "inspect", "--config", built.name))

    assert [str(each.diff_id) for each in built.image.layers] == config["rootfs"]["diff_ids"]
    assert "/xm/code" == config["config"]["WorkingDir"]


def test_umoci_unpacks_the_code_to_the_byte(unpacked):
    for name, data in CODE.items():
        path = unpacked / "xm/code" / name.lstrip("*@")
        if name.startswith("@"):
            assert data.decode() == os.readlink(path)
        else:
            assert data == path.read_bytes()
            assert (0o755 if name.startswith("*") else 0o644) == path.stat().st_mode & 0o777
    assert os.path.isdir(unpacked / "xm/outputs")
    assert os.path.isdir(unpacked / "xm/pycache")


def test_charliecloud_runs_what_umoci_unpacked(unpacked):
    said = run(
        "ch-run",
        "--set-env=/dev/null",
        "--cd",
        "/xm/code",
        unpacked,
        "--",
        "/xm/venv/bin/python",
        "train.py",
        USER="root",
    )

    assert SAID == said


def test_bubblewrap_runs_what_tar_unpacked(built):
    root = built.folder / "root"
    root.mkdir()
    for layer in built.image.layers:
        with built.blobs.open(layer.blob.digest) as blob:
            subprocess.run(["tar", "-xzf", "-", "-C", str(root)], stdin=blob, check=True)
    said = run(
        *("bwrap", "--unshare-all", "--clearenv", "--ro-bind", root, "/", "--proc", "/proc"),
        *("--dev", "/dev", "--tmpfs", "/tmp", "--chdir", "/xm/code"),
        *(word for name, value in built.image.env for word in ("--setenv", name, value)),
        *("sh", "run.sh"),
    )

    assert SAID == said


@pytest.fixture
def podman() -> Iterator[tuple[str, ...]]:
    """How to call podman with a storage of its own."""
    # Not below pytest's folder: podman's run root has 50 characters at most.
    folder = Path(subprocess.check_output(["mktemp", "-d"], text=True).strip())
    (folder / "config.json").write_text("{}")
    yield (
        *("env", f"DOCKER_CONFIG={folder}", "podman", "--root", f"{folder}/root"),
        *("--runroot", f"{folder}/run", "--cgroup-manager", "cgroupfs", "--runtime", "runc"),
    )
    overlay = folder / "root" / "overlay"
    subprocess.run(["umount", "--recursive", "--quiet", str(overlay)], check=False)
    shutil.rmtree(folder)


def test_podman_names_our_digests_and_runs_the_image(built, podman):
    pulled = run(*podman, "pull", "--quiet", built.name).strip()
    (inspected,) = json.loads(run(*podman, "image", "inspect", pulled))
    said = run(*podman, "run", "--rm", "--network", "none", *LIMITS, pulled, "python", "train.py")

    assert built.image.config.digest.hex == inspected["Id"]
    assert str(built.image.manifest.digest) == inspected["Digest"]
    assert [str(layer.diff_id) for layer in built.image.layers] == inspected["RootFS"]["Layers"]
    assert SAID == said


@pytest.fixture(scope="module")
def registry(built) -> Iterator[str]:
    folder = built.folder / "registry"
    folder.mkdir()
    (folder / "config.yml").write_text(
        "version: 0.1\nlog: {level: error}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/data}}}}\n"
        f"http: {{addr: '127.0.0.1:{PORT}'}}\n"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(folder / "config.yml")], stdout=log, stderr=log
        )
    try:
        _wait_for(
            lambda: socket.create_connection(("127.0.0.1", PORT), 1).close(),
            process,
            folder / "log",
        )
        yield f"127.0.0.1:{PORT}"
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def docker(built) -> Iterator[str]:
    """A Docker engine of our own; its URL."""
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
        _wait_for(lambda: run("docker", "--host", url, "info"), process, folder / "log")
        yield url
    finally:
        process.terminate()
        process.wait(30)
        subprocess.run(["umount", "--recursive", "--quiet", str(folder / "exec")], check=False)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(ready, process, log: Path) -> None:
    deadline = time.monotonic() + 40
    while True:
        assert process.poll() is None, log.read_text()
        try:
            ready()
            return
        except (OSError, AssertionError):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)


def test_docker_pulls_our_manifest_digest_from_a_registry_and_runs_it(built, registry, docker):
    run(
        "skopeo",
        "copy",
        "--quiet",
        "--dest-tls-verify=false",
        built.name,
        f"docker://{registry}/judged:t",
    )
    name = f"{registry}/judged@{built.image.manifest.digest}"
    run("docker", "--host", docker, "pull", "--quiet", name)
    (inspected,) = json.loads(run("docker", "--host", docker, "image", "inspect", name))
    said = run(
        "docker", "--host", docker, "run", "--rm", "--network", "none", name, "python", "train.py"
    )

    assert str(built.image.config.digest) == inspected["Id"]
    assert [name] == inspected["RepoDigests"]
    assert [str(layer.diff_id) for layer in built.image.layers] == inspected["RootFS"]["Layers"]
    assert SAID == said


def test_a_base_comes_from_a_docker_engine_with_its_image_id(built, docker, tmp_path):
    tag = "judged/base:1"
    run(
        *("skopeo", "copy", "--quiet", "--dest-daemon-host", docker),
        *(f"oci:{built.folder}/oci:base/default", f"docker-daemon:{tag}"),
    )
    blobs = DiskBlobStore(tmp_path / "oci")
    bases = Bases(
        blobs,
        no_registry,
        work_dir=tmp_path / "work",
        cache_dir=tmp_path / "cache",
        docker_host=docker,
    )
    base = bases.resolve(f"docker-daemon:{tag}", progress=SilentProgress())

    assert built.base.config.digest == base.config.digest
    assert [each.diff_id for each in built.base.layers] == [each.diff_id for each in base.layers]
    # Its layers were framed by us once more, and our framing is a function of the content.
    assert built.base.layers[0].blob.digest == base.layers[0].blob.digest
    assert built.base.manifest.digest == base.manifest.digest
    assert built.base.target == base.target


def test_a_base_comes_from_what_podman_saved(built, tmp_path):
    run(
        "skopeo",
        "copy",
        "--quiet",
        f"oci:{built.folder}/oci:base/default",
        f"docker-archive:{tmp_path}/saved.tar:b:1",
    )
    bases = Bases(
        DiskBlobStore(tmp_path / "oci"),
        no_registry,
        work_dir=tmp_path / "work",
        cache_dir=tmp_path / "cache",
    )
    base = bases.resolve(f"docker-archive:{tmp_path}/saved.tar", progress=SilentProgress())

    assert built.base.config.digest == base.config.digest
    assert built.base.target == base.target


def test_an_image_built_again_without_any_cache_is_the_same(built):
    again = Builder(built.blobs, None).build(
        built.image.recipe, built.base, DictTree(CODE), SilentProgress()
    )

    assert built.image == again
