"""A prefix of conda packages is what py-rattler installs, less bytecode and link scripts."""

from __future__ import annotations

import asyncio
import io
import json
import os
import tarfile
from pathlib import Path

import pytest
import rattler

from tests.support.conda_packages import PLACEHOLDER, CondaPackage, File, channel_of, make_conda
from tests.support.lock_trees import target
from tests.support.loopback import serve
from xmslurm_repro.errors import DigestMismatchError, ImageError
from xmslurm_repro.image.cache import LayerCache
from xmslurm_repro.image.conda import CondaLayers
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.lock import Artifact
from xmslurm_repro.ports.progress import SilentProgress
from xmslurm_repro.store.memory_blobs import MemoryBlobStore

CHANNEL = "https://conda.example/forge"
PATHS = PLACEHOLDER.encode()
BINARY = b"\x7fELF\0" + PATHS + b"/lib:" + PATHS + b"/lib64\0rest\0" + PATHS + b"\0tail" + PATHS


def the_packages(suffix: str = ".conda") -> list[CondaPackage]:
    """A Python in name, libraries and tools of every kind that conda-forge has."""
    return [
        make_conda(
            "python",
            {
                "bin/python3.12": File(content=b"\x7fELF\0interpreter", mode=0o775),
                "bin/python3": File(to="python3.12"),
                "bin/python": File(to="python3.12"),
                "lib/python3.12/os.py": "import abc\n",
                "lib/python3.12/__pycache__/os.cpython-312.pyc": b"\0\0",
                "lib/python3.12/_sysconfigdata.py": f"PREFIX = '{PLACEHOLDER}/lib'\n" * 3,
            },
            version="3.12.4",
            suffix=suffix,
            depends=["libthing >=1", "tzdata"],
        ),
        make_conda(
            "libthing",
            {
                "lib/libthing.so.1.2": File(content=BINARY, mode=0o755),
                "lib/libthing.so.1": File(to="libthing.so.1.2"),
                "lib/libthing.so": File(to="libthing.so.1.2"),
                "lib/copy.so": File(to="lib/libthing.so.1.2", hard=True, mode=0o755),
                "bin/thing-config": File(
                    content=f"#!{PLACEHOLDER}/bin/sh\necho {PLACEHOLDER}\n".encode(), mode=0o755
                ),
                "share/a name with spaces/é.txt": "text",
                "share/empty": "",
            },
            suffix=suffix,
        ),
        make_conda(
            "greeter",
            {
                "site-packages/greeter/__init__.py": "def main(): print('hello')\n",
                "site-packages/greeter-1.0.dist-info/METADATA": "Name: greeter\n",
                "python-scripts/old-greeter": File(
                    content=f"#!{PLACEHOLDER}/bin/python\n".encode(), mode=0o755
                ),
                "share/greeter/data": "1",
            },
            suffix=suffix,
            noarch="python",
            entry_points=["greet = greeter:main"],
            depends=["python >=3.8"],
        ),
        make_conda("tzdata", {"share/zoneinfo/UTC": b"TZif\0"}, suffix=suffix, noarch="generic"),
    ]


def artifact_of(package: CondaPackage, channel: str = CHANNEL) -> Artifact:
    return Artifact(
        name=package.index["name"],
        version=package.index["version"],
        filename=package.filename,
        sha256=Digest.sha256(package.sha256),
        channel=f"{channel}/{package.subdir}",
    )


def layers_of(packages: list[CondaPackage], blobs=None, cache=None):
    blobs = blobs or MemoryBlobStore()
    for package in packages:
        blobs.put(package.data)
    own = target(python="3.12.4")
    builder = CondaLayers(blobs, cache, SilentProgress())
    return blobs, builder.build([artifact_of(one) for one in packages], own, 1, layout=2)


def prefix_of(packages: list[CondaPackage]) -> dict[str, tuple[object, bool]]:
    """Content (or link target) and executability by path in the prefix."""
    blobs, layers = layers_of(packages)
    found: dict[str, tuple[object, bool]] = {}
    for layer in layers:
        with tarfile.open(fileobj=io.BytesIO(blobs.get(layer.blob.digest))) as archive:
            for member in archive:
                path = member.name.removeprefix("xm/venv/")
                if member.issym():
                    found[path] = (f"-> {member.linkname}", False)
                elif member.isfile():
                    assert path not in found
                    found[path] = (archive.extractfile(member).read(), bool(member.mode & 0o111))
    return found


def installed_by_rattler(packages: list[CondaPackage], folder: Path) -> dict:
    """The same packages as py-rattler installs them, for the prefix that ours has."""
    with serve(channel_of(packages)) as server:
        records = [
            rattler.RepoDataRecord(
                rattler.PackageRecord.from_index_json(
                    _written(folder / f"{one.filename}.json", json.dumps(one.index)),
                    sha256=one.sha256,
                    size=len(one.data),
                ),
                one.filename,
                one.url(server.url),
                server.url,
            )
            for one in packages
        ]
        prefix = folder / "prefix"
        asyncio.run(
            rattler.install(
                records,
                prefix,
                cache_dir=folder / "cache",
                show_progress=False,
                platform=rattler.Subdir("linux-64"),
                alternative_target_prefix="/xm/venv",
            )
        )
    return {str(path.relative_to(prefix)): _seen(path) for path in _walk(prefix)}


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def _walk(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_symlink() or path.is_file()]


def _seen(path: Path) -> tuple[object, bool]:
    if path.is_symlink():
        return (f"-> {os.readlink(path)}", False)
    return path.read_bytes(), bool(path.stat().st_mode & 0o111)


COMMAND = "bin/greet"


@pytest.mark.parametrize("suffix", [".conda", ".tar.bz2"])
def test_the_prefix_is_the_one_that_rattler_makes(tmp_path, suffix):
    packages = the_packages(suffix)
    ours, theirs = prefix_of(packages), installed_by_rattler(packages, tmp_path)

    def less_records(found):
        return {
            path: seen
            for path, seen in found.items()
            if not path.startswith("conda-meta/")
            and "__pycache__/" not in path
            and path != "CACHEDIR.TAG"  # for programs that make backups
        }

    command = ours[COMMAND][0].splitlines()
    assert b"#!/xm/venv/bin/python" == command[0]
    assert b"from greeter import main" in command
    assert less_records(theirs).keys() == less_records(ours).keys()
    assert theirs[COMMAND][1] == ours[COMMAND][1]
    del ours[COMMAND], theirs[COMMAND]  # only its text differs, as it does for wheels
    assert less_records(theirs) == less_records(ours)
    assert not any("__pycache__" in path for path in ours)


def test_records_are_read_by_rattler_and_say_nothing_of_who_wrote_them(tmp_path):
    ours = prefix_of(the_packages())
    records = {path: seen for path, (seen, _) in ours.items() if path.startswith("conda-meta/")}
    text = records["conda-meta/libthing-1.0-0.json"]
    path = tmp_path / "libthing-1.0-0.json"
    path.write_bytes(text)
    record = rattler.PrefixRecord.from_path(path)

    assert b"" == records["conda-meta/history"]
    assert {"greeter-1.0-0", "libthing-1.0-0", "python-3.12.4-0", "tzdata-1.0-0"} == {
        Path(name).stem for name in records if name.endswith(".json")
    }
    assert "libthing" == record.name.normalized
    assert f"{CHANNEL}/linux-64/libthing-1.0-0.conda" == record.url
    assert sorted(str(file) for file in record.files) == sorted(json.loads(text)["files"])
    listed = {row["_path"]: row for row in json.loads(text)["paths_data"]["paths"]}
    assert "binary" == listed["lib/libthing.so.1.2"]["file_mode"]
    assert b"extracted" not in text
    assert str(tmp_path).encode() not in text


def test_an_old_description_leads_to_the_same_files():
    described, old = (
        make_conda(
            "old",
            {
                "bin/run": File(content=f"#!{PLACEHOLDER}/bin/sh\n".encode(), mode=0o755),
                "lib/a.so": File(content=BINARY),
            },
            suffix=".tar.bz2",
            old_description=is_old,
        )
        for is_old in (False, True)
    )

    def contents(package):
        found = prefix_of([package])
        return {path: seen for path, seen in found.items() if "conda-meta" not in path}

    assert contents(described) == contents(old)


def test_of_two_packages_with_one_path_the_one_that_needs_the_other_wins(tmp_path):
    packages = [
        make_conda("a", {"share/license": "of a", "share/a": ""}, depends=["b"]),
        make_conda("b", {"share/license": "of b", "share/b": ""}),
    ]
    ours, theirs = prefix_of(packages), installed_by_rattler(packages, tmp_path)

    assert b"of a" == ours["share/license"][0] == theirs["share/license"][0]
    record = json.loads(ours["conda-meta/b-1.0-0.json"][0])
    assert ["share/b"] == record["files"]


def test_layers_are_the_same_whatever_the_order_and_whether_cached(tmp_path):
    packages = the_packages()
    blobs, first = layers_of(packages)
    cache = LayerCache(tmp_path, blobs)
    _, second = layers_of(packages[::-1], blobs, cache)
    _, third = layers_of(packages, blobs, cache)

    assert first == second == third


def test_a_file_that_is_not_what_its_description_says_is_refused():
    package = make_conda("bad", {"lib/x": "1", "lib/y": "2"}, changed={"lib/x": b"other"})

    with pytest.raises(ImageError) as caught:
        layers_of([package])
    assert "bad-1.0-0.conda" in caught.value.details[0]
    assert "'lib/x'" in caught.value.details[0]


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "lib/.wh.x", "conda-meta/x.json"])
def test_a_path_that_leads_out_of_the_prefix_is_refused(path):
    with pytest.raises(ImageError) as caught:
        layers_of([make_conda("bad", {path: "1"})])
    assert repr(path) in caught.value.details[0]


def test_every_broken_package_is_named():
    whole = make_conda("whole", {"lib/a": "1"})
    cut = make_conda("cut", {"lib/b": "1"})
    object.__setattr__(cut, "data", cut.data[:200])
    rubbish = make_conda("rubbish", {"lib/c": "1"}, suffix=".tar.bz2")
    object.__setattr__(rubbish, "data", b"rubbish")

    with pytest.raises(ImageError) as caught:
        layers_of([whole, cut, rubbish])
    named = " ".join(caught.value.details)
    assert "cut-1.0-0.conda" in named
    assert "rubbish-1.0-0.tar.bz2" in named
    assert "whole" not in named


def test_a_package_that_was_damaged_in_the_store_is_not_used():
    package = make_conda("whole", {"lib/a": "1"})
    blobs = MemoryBlobStore()
    digest = blobs.put(package.data)
    blobs._blobs[digest] = make_conda("whole", {"lib/a": "2"}).data

    with pytest.raises(DigestMismatchError):
        CondaLayers(blobs, None, SilentProgress()).build([artifact_of(package)], None, 1, layout=2)


def test_a_command_for_every_python_needs_a_python():
    package = make_conda("tool", {"site-packages/t.py": ""}, noarch="python")

    with pytest.raises(ImageError) as caught:
        layers_of([package])
    assert "it needs a Python, and the environment has none" in caught.value.details[0]


def test_what_takes_no_effect_is_said():
    package = make_conda(
        "compiler",
        {
            "bin/.compiler-post-link.sh": File(content=b"#!/bin/sh\n", mode=0o755),
            "etc/conda/activate.d/compiler.sh": "export CC=x\n",
        },
    )
    blobs, _ = layers_of([package])
    remarks = CondaLayers(blobs, None, SilentProgress()).remarks([artifact_of(package)], None)

    assert (
        "compiler: its script bin/.compiler-post-link.sh is not run",
        "compiler: what etc/conda/activate.d/compiler.sh would set is not set",
    ) == remarks


@pytest.mark.parametrize("zeros", [1, 70_000, 3 << 20])
def test_the_prefix_is_replaced_wherever_it_stands_in_a_large_file(zeros, tmp_path):
    content = (b"x" * zeros + PATHS + b"\0") * 3 + b"\0" * zeros + PATHS[:-1]
    package = make_conda("large", {"lib/large.so": content})
    ours, theirs = prefix_of([package]), installed_by_rattler([package], tmp_path)

    assert theirs["lib/large.so"] == ours["lib/large.so"]
    assert len(content) == len(ours["lib/large.so"][0])
