"""
Locks: finding the one in force in a snapshot, and reading it.

The locks in tests/golden/lock are what `uv lock` and `uv export` of uv 0.13 wrote for the
pyproject.toml beside them, but for the names of hosts.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.lock_trees import FilesTree, target
from tests.support.loopback import serve
from tests.support.wheels import Index, make_wheel, sha256
from xmslurm_repro.errors import (
    FetchError,
    FormatError,
    LockMissingError,
    LockUnpinnedError,
    NoWheelError,
    UsageError,
)
from xmslurm_repro.lock.resolve import resolve_lock
from xmslurm_repro.model.canonical import canonical_json
from xmslurm_repro.model.lock import Lock
from xmslurm_repro.model.reader import Reader
from xmslurm_repro.store.memory import MemoryObjectStore

GOLDEN = Path(__file__).parent.parent / "golden" / "lock"
WHEEL = "wheels/cycler-0.12.1-py3-none-any.whl"
BARE = '[project]\nname = "x"\nversion = "0"\n'
MARKUPSAFE = (
    "markupsafe-3.0.4-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64."
    "manylinux_2_28_x86_64.whl"
)
EMPTY = 'lock-version = "1.0"\ncreated-by = "test"\npackages = []\n'
HASH = "0" * 64


def files_of(folder: str, prefix: str = "") -> dict[str, bytes]:
    root = GOLDEN / folder
    return {
        f"{prefix}{path.relative_to(root)}": path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


PROJECT = files_of("project")
UV_PROJECT = {name: PROJECT[name] for name in ("pyproject.toml", "uv.lock")}
WORKSPACE = {**files_of("workspace"), WHEEL: b"a wheel"}


class World:
    """A store, a cache, and snapshots over them."""

    def __init__(self, cache: Path) -> None:
        self.store, self.cache = MemoryObjectStore(), cache

    def resolve(self, files, folder: str = "", *, lock_path=None, **options) -> Lock | None:
        return resolve_lock(
            FilesTree(self.store, files),
            folder,
            lock_path=lock_path,
            target=target(**options),
            store=self.store,
            cache_dir=self.cache,
        )

    def names(self, files, folder: str = "", **options) -> list[str]:
        lock = self.resolve(files, folder, **options)
        assert lock is not None
        return [artifact.name for artifact in lock.artifacts]


@pytest.fixture
def world(tmp_path: Path, monkeypatch) -> World:
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    return World(tmp_path / "cache")


def pylock_of(*names: str) -> str:
    parts = [
        f'[[packages]]\nname = "{name}"\nversion = "1.0"\nwheels = [{{ url = '
        f'"https://files.example/{name}-1.0-py3-none-any.whl", hashes = {{ sha256 = "{HASH}" }} }}]'
        for name in names
    ]
    return 'lock-version = "1.0"\ncreated-by = "test"\n' + "\n".join(parts)


def test_a_uv_lock_is_read_for_the_target(world) -> None:
    lock = world.resolve(UV_PROJECT)

    assert lock is not None
    assert ("uv.lock", "uv.lock", ()) == (lock.path, lock.kind, lock.sources)
    assert [
        "bcrypt-5.0.0-cp39-abi3-manylinux_2_34_x86_64.whl",
        MARKUPSAFE,
        "six-1.17.0-py2.py3-none-any.whl",
        "typing_extensions-4.16.0-py3-none-any.whl",
    ] == [artifact.filename for artifact in lock.artifacts]


def test_the_lock_file_itself_is_kept(world) -> None:
    lock = world.resolve(UV_PROJECT)

    assert UV_PROJECT["uv.lock"] == world.store.get(lock.digest)


def test_the_two_formats_of_one_lock_give_the_same_wheels(world) -> None:
    for options in ({}, {"architecture": "arm64"}, {"python": "3.13.1", "libc": ("musl", 1, 2)}):
        from_uv = world.resolve(UV_PROJECT, **options)
        from_pylock = world.resolve({"pylock.toml": PROJECT["pylock.toml"]}, **options)

        assert from_uv.artifacts == from_pylock.artifacts


def test_pylock_outranks_uv_lock_outranks_requirements(world) -> None:
    every = {
        "pylock.toml": EMPTY,
        "uv.lock": UV_PROJECT["uv.lock"],
        "requirements.txt": f"a==1 --hash=sha256:{HASH}\n",
    }

    assert "pylock.toml" == world.resolve(every).kind
    del every["pylock.toml"]
    every["pyproject.toml"] = UV_PROJECT["pyproject.toml"]
    assert "uv.lock" == world.resolve(every).kind


def test_the_nearest_folder_wins(world) -> None:
    files = {"pylock.toml": pylock_of("far"), "a/pylock.toml": pylock_of("near"), "a/b/x.py": ""}

    assert ["near"] == world.names(files, "a/b")
    assert ["near"] == world.names(files, "a")
    assert ["far"] == world.names(files, "c")
    assert ["far"] == world.names(files)


def test_a_named_lock_outranks_all(world) -> None:
    files = {"pylock.toml": pylock_of("a"), "locks/pylock.gpu.toml": pylock_of("b")}

    assert ["b"] == world.names(files, lock_path="locks/pylock.gpu.toml")
    assert ["b"] == world.names(files, "src", lock_path="src/../locks/pylock.gpu.toml")


@pytest.mark.parametrize("path", ["gone/uv.lock", "../uv.lock", "/etc/uv.lock"])
def test_a_named_lock_must_be_in_the_snapshot(world, path) -> None:
    with pytest.raises(LockMissingError) as caught:
        world.resolve(UV_PROJECT, lock_path=path)

    assert path in caught.value.message


def test_a_file_of_another_kind_is_no_lock(world) -> None:
    with pytest.raises(UsageError, match=r"setup\.py"):
        world.resolve({"setup.py": ""}, lock_path="setup.py")


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"train.py": "import os"},
        {"pyproject.toml": "[tool.ruff]\n"},
        {"pyproject.toml": BARE},
        {"pyproject.toml": BARE + "dependencies = []\n"},
        {"pyproject.toml": '[tool.poetry.dependencies]\npython = "^3.11"\n'},
        {"setup.py": "from setuptools import setup; setup(name='x')"},
        {"setup.cfg": "[metadata]\nname = x\n"},
    ],
)
def test_a_project_without_dependencies_needs_no_lock(world, files) -> None:
    assert world.resolve(files) is None


@pytest.mark.parametrize(
    ("files", "declared", "hint"),
    [
        (
            {"pyproject.toml": BARE + 'dependencies = ["numpy>=1", "six"]\n'},
            "numpy>=1, six",
            "uv lock",
        ),
        ({"pyproject.toml": BARE + 'dynamic = ["dependencies"]\n'}, "build backend", "uv lock"),
        ({"Pipfile": "", "Pipfile.lock": ""}, "Pipfile", "pipenv requirements"),
        (
            {"setup.py": "setup(install_requires=['a'])"},
            "install_requires",
            "uv pip compile setup.py ",
        ),
        (
            {"setup.py": "setup(install_requires=['a'])", "pyproject.toml": "[tool.ruff]\n"},
            "install_requires",
            "uv pip compile setup.py ",
        ),
        (
            {
                "pyproject.toml": "[build-system]\nrequires = []\n",
                "setup.cfg": "[flake8]\nmax-line-length = 100\n",
                "setup.py": "setup(install_requires=['a'])",
            },
            "install_requires",
            "uv pip compile setup.py ",
        ),
        ({"setup.cfg": "[options]\ninstall_requires =\n  a\n  b>1\n"}, "a, b>1", "uv pip compile"),
        ({"requirements.in": "# x\nnumpy  # y\n"}, "numpy", "uv pip compile"),
    ],
)
def test_declared_dependencies_need_a_lock(world, files, declared, hint) -> None:
    with pytest.raises(LockMissingError) as caught:
        world.resolve({**files, "sub/x.py": ""}, "sub")

    assert declared in caught.value.details[0]
    assert hint in caught.value.hint


def test_a_dependency_added_after_locking_is_noticed(world) -> None:
    project = UV_PROJECT["pyproject.toml"].replace(b'"six"', b'"six>=99", "wandb"')

    with pytest.raises(LockMissingError) as caught:
        world.resolve({**UV_PROJECT, "pyproject.toml": project})

    assert ("six>=99: the lock has 1.17.0", "wandb: not in the lock") == caught.value.details
    assert "uv lock" in caught.value.hint


def test_a_dependency_for_other_platforms_need_not_be_locked(world) -> None:
    project = UV_PROJECT["pyproject.toml"].replace(
        b'"six"', b'"six", "pywin32; sys_platform == \'win32\'"'
    )

    assert 4 == len(world.names({**UV_PROJECT, "pyproject.toml": project}))


def test_a_locked_prerelease_is_what_the_lock_says(world) -> None:
    files = {
        "pyproject.toml": BARE + 'dependencies = ["a>=0.5"]\n',
        "pylock.toml": pylock_of("a")
        .replace('"1.0"', '"1.0rc1"', 2)
        .replace("a-1.0-", "a-1.0rc1-"),
    }
    files["pylock.toml"] = files["pylock.toml"].replace(
        'lock-version = "1.0rc1"', 'lock-version = "1.0"'
    )

    assert ["a"] == world.names(files)


def test_a_named_lock_need_not_cover_the_project(world) -> None:
    files = {
        "pyproject.toml": BARE + 'dependencies = ["torch", "wandb"]\n',
        "locks/pylock.eval.toml": pylock_of("six"),
        "pylock.few.toml": pylock_of("six"),
    }

    assert ["six"] == world.names(files, lock_path="locks/pylock.eval.toml")
    assert ["six"] == world.names(files, lock_path="pylock.few.toml")


def test_an_override_may_contradict_what_is_declared(world) -> None:
    project = UV_PROJECT["pyproject.toml"].replace(b'"six"', b'"six>=99"')
    project += b'override-dependencies = ["six<2"]\n'

    assert "six" in world.names({**UV_PROJECT, "pyproject.toml": project})


def test_a_project_above_the_lock_is_not_what_it_is_for(world) -> None:
    files = {
        "pyproject.toml": BARE + 'dependencies = ["numpy"]\n',
        "tools/pylock.toml": pylock_of("six"),
    }

    assert ["six"] == world.names(files, "tools")


def test_a_workspace_gives_its_root_and_what_that_needs(world) -> None:
    lock = world.resolve(WORKSPACE)

    names = [artifact.name for artifact in lock.artifacts]
    assert ["attrs", "cycler", "iniconfig", "six"] == names
    assert ("libs/gamma/src", "packages/alpha/src") == lock.sources


def test_a_member_of_a_workspace_gets_only_its_own(world) -> None:
    lock = world.resolve(WORKSPACE, "packages/beta/src")

    assert ["pyparsing"] == [artifact.name for artifact in lock.artifacts]
    assert ("packages/beta/src",) == lock.sources
    assert "uv.lock" == lock.path


def test_a_whole_project_may_lie_below_the_root(world) -> None:
    files = {f"lab/{path}": data for path, data in WORKSPACE.items()}
    lock = world.resolve(files, "lab")

    assert "lab/uv.lock" == lock.path
    assert ("lab", "lab/libs/gamma/src", "lab/packages/alpha/src") == lock.sources


def test_a_project_that_the_lock_above_does_not_know_is_told_apart(world) -> None:
    other = {
        "other/pyproject.toml": BARE + 'dependencies = ["rich"]\n',
        "plain/pyproject.toml": BARE,
    }

    with pytest.raises(LockMissingError, match=r"uv\.lock does not cover it"):
        world.resolve({**WORKSPACE, **other}, "other")
    assert 4 == len(world.names({**WORKSPACE, **other}, "plain"))


def test_a_wheel_in_the_snapshot_goes_by_its_content_there(world) -> None:
    lock = world.resolve(WORKSPACE)

    cycler = next(artifact for artifact in lock.artifacts if artifact.name == "cycler")
    assert str(world.store.put(b"a wheel")) == cycler.url


FLAT_LOCK = """\
version = 1
revision = 3
requires-python = ">=3.11"

[[package]]
name = "alpha"
version = "1.0"
source = { registry = "wheels" }
wheels = [
    { path = "alpha-1.0-py3-none-any.whl" },
]

[[package]]
name = "x"
version = "0"
source = { virtual = "." }
dependencies = [
    { name = "alpha" },
]
"""


def test_an_index_may_be_a_folder_of_the_project(world) -> None:
    """uv.lock has no hashes of its wheels, so it is the snapshot that decides."""
    files = {
        "lab/uv.lock": FLAT_LOCK,
        "lab/pyproject.toml": BARE + 'requires-python = ">=3.11"\ndependencies = ["alpha"]\n',
        "lab/wheels/alpha-1.0-py3-none-any.whl": make_wheel("alpha"),
    }
    for content in ("", "# newer"):
        wheel = make_wheel("alpha", content=content)
        files["lab/wheels/alpha-1.0-py3-none-any.whl"] = wheel
        (found,) = world.resolve(files, "lab").artifacts

        assert (sha256(wheel), str(world.store.put(wheel))) == (found.sha256.hex, found.url)


def test_a_wheel_elsewhere_on_this_machine_is_known_by_its_hash(world) -> None:
    files = {"pylock.toml": pylock_of("a").replace("https://files.example", "file:///opt/wheels")}

    [found] = world.resolve(files).artifacts

    assert "file:///opt/wheels/a-1.0-py3-none-any.whl" == found.url
    assert "opt" not in str(found.to_json())


def test_a_wheel_or_folder_that_was_not_captured_is_named(world) -> None:
    without = {path: data for path, data in WORKSPACE.items() if path != WHEEL}

    with pytest.raises(NoWheelError) as caught:
        world.resolve(without)
    assert f"cycler 0.12.1: its wheel {WHEEL} is not in the snapshot" in caught.value.details

    without = {path: data for path, data in WORKSPACE.items() if not path.startswith("libs/")}
    with pytest.raises(NoWheelError) as caught:
        world.resolve(without)
    assert "gamma: its folder libs/gamma is not in the snapshot" in caught.value.details


def test_a_uv_lock_that_uv_cannot_read_is_a_format_error(world) -> None:
    for text in ("version = 99\n", "not toml at all", ""):
        with pytest.raises(FormatError, match=r"^uv\.lock"):
            world.resolve({**UV_PROJECT, "uv.lock": text})


def test_a_second_launch_starts_no_other_program(world, monkeypatch) -> None:
    first = world.resolve(WORKSPACE, "packages/alpha")

    def refuse(*args, **kwargs):
        pytest.fail(f"started {args}")

    monkeypatch.setattr(subprocess, "run", refuse)
    assert first == world.resolve(WORKSPACE, "packages/alpha")


def test_another_target_or_lock_is_not_answered_from_the_cache(world) -> None:
    debian = world.names(UV_PROJECT)
    arm = world.names(UV_PROJECT, architecture="arm64")
    newer = {**UV_PROJECT, "uv.lock": UV_PROJECT["uv.lock"].replace(b'"1.17.0"', b'"1.17.1"')}

    assert "colorama" not in debian
    assert "colorama" in arm
    with pytest.raises(FormatError):  # uv sees that the file names do not fit the version
        world.resolve(newer)


def test_members_of_one_workspace_are_told_apart_in_the_cache(world) -> None:
    root, member = world.names(WORKSPACE), world.names(WORKSPACE, "packages/beta")

    assert ["attrs", "cycler", "iniconfig", "six"] == root
    assert ["pyparsing"] == member


def test_what_a_requirements_file_includes_is_part_of_it(world) -> None:
    url = "a @ https://files.example/a-{0}-py3-none-any.whl --hash=sha256:" + HASH
    files = {"requirements.txt": "-r more.txt\n", "more.txt": url.format("1.0")}
    before = world.resolve(files)
    after = world.resolve({**files, "more.txt": url.format("2.0")})

    assert ("1.0", "2.0") == (before.artifacts[0].version, after.artifacts[0].version)


def test_a_damaged_cache_is_as_good_as_none(world) -> None:
    first = world.resolve(UV_PROJECT)
    (kept,) = (world.cache / "locks").iterdir()
    whole = kept.read_bytes()

    for damaged in (b"", whole[:-1], whole.replace(b"bcrypt", b"bcrypd"), b"\xff\n{}", b"{}"):
        kept.write_bytes(damaged)
        assert first == world.resolve(UV_PROJECT)
        assert whole == kept.read_bytes()


def test_a_cache_that_cannot_be_written_does_no_harm(world) -> None:
    world.cache.write_bytes(b"a file where the folder should be")

    assert 4 == len(world.names(UV_PROJECT))


def test_a_lock_survives_its_json(world) -> None:
    lock = world.resolve(WORKSPACE)
    again = Lock.from_json(Reader.of_json(canonical_json(lock.to_json()), "lock"))

    assert lock.sources == again.sources
    assert lock.to_json() == again.to_json()


# Requirements files: they name hashes only, so an index has to be asked.


def requirements(url: str, *lines: str) -> dict[str, str]:
    return {"requirements.txt": f"--index-url {url}/simple\n" + "".join(f"{x}\n" for x in lines)}


def test_a_requirements_file_is_looked_up_in_the_index(world) -> None:
    alpha, beta = make_wheel("alpha"), make_wheel("beta", "2.0")
    index = Index({"alpha-1.0-py3-none-any.whl": alpha, "beta-2.0-py3-none-any.whl": beta})
    with serve(index) as server:
        files = requirements(
            server.url,
            f"alpha==1.0 --hash=sha256:{sha256(alpha)}",
            f"beta==2.0 ; python_version >= '3' --hash=sha256:{'f' * 64} --hash=sha256:{sha256(beta)}",
            f"gone==1.0 ; sys_platform == 'win32' --hash=sha256:{HASH}",
        )
        lock = world.resolve(files)

    assert "requirements.txt" == lock.kind
    assert [("alpha", sha256(alpha)), ("beta", sha256(beta))] == [
        (artifact.name, artifact.sha256.hex) for artifact in lock.artifacts
    ]
    assert f"{server.url}/files/alpha-1.0-py3-none-any.whl" == lock.artifacts[0].url


def test_a_requirements_file_is_not_looked_up_twice(world) -> None:
    alpha = make_wheel("alpha")
    with serve(Index({"alpha-1.0-py3-none-any.whl": alpha})) as server:
        files = requirements(server.url, f"alpha==1.0 --hash=sha256:{sha256(alpha)}")
        first = world.resolve(files)

    assert first == world.resolve(files)  # the index is gone


def test_only_files_with_an_allowed_hash_are_taken(world) -> None:
    pure, fast = make_wheel("alpha"), make_wheel("alpha", content="# fast")
    both = {
        "alpha-1.0-py3-none-any.whl": pure,
        "alpha-1.0-cp311-cp311-manylinux_2_17_x86_64.whl": fast,
    }
    with serve(Index(both)) as server:
        lock = world.resolve(requirements(server.url, f"alpha==1.0 --hash=sha256:{sha256(pure)}"))

    assert ["alpha-1.0-py3-none-any.whl"] == [artifact.filename for artifact in lock.artifacts]


def test_an_index_with_other_files_is_told_apart(world) -> None:
    names = ["alpha-1.0-py3-none-any.whl", "beta-1.0-py3-none-any.whl"]
    with serve(Index({name: make_wheel(name.split("-")[0]) for name in names})) as server:
        files = requirements(
            server.url, *(f"{n.split('-')[0]}==1.0 --hash=sha256:{HASH}" for n in names)
        )
        with pytest.raises(NoWheelError) as caught:
            world.resolve(files)

    assert "alpha, beta" in caught.value.message
    expected = (
        "alpha 1.0: none of the 1 wheels on the index has a hash that requirements.txt:2 allows"
    )
    assert expected in caught.value.details


def test_packages_without_a_wheel_on_the_index_are_listed_at_once(world) -> None:
    fine = make_wheel("fine")
    index = Index(
        {"fine-1.0-py3-none-any.whl": fine, "source-1.0.tar.gz": b"", "tar-1.0.tar.gz": b""}
    )
    with serve(index) as server:
        files = requirements(
            server.url,
            f"source==1.0 --hash=sha256:{HASH}",
            f"fine==1.0 --hash=sha256:{sha256(fine)}",
            f"tar==1.0 --hash=sha256:{HASH}",
        )
        with pytest.raises(NoWheelError) as caught:
            world.resolve(files)

    assert caught.value.message.endswith("2 packages: source, tar")


def test_an_index_that_cannot_be_asked_is_a_fetch_error(world, monkeypatch) -> None:
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with serve(Index({})) as server:
        url = server.url

    with pytest.raises(FetchError) as caught:
        world.resolve(requirements(url, f"alpha==1.0 --hash=sha256:{HASH}"))
    assert any("alpha" in line for line in caught.value.details)


def test_a_requirement_by_url_and_local_folders_need_no_index(world) -> None:
    files = {
        "requirements.txt": (
            f"alpha @ https://files.example/alpha-1.0-py3-none-any.whl --hash=sha256:{HASH}\n"
            "-e .\n./libs/gamma\n"
        ),
        "libs/gamma/src/gamma/__init__.py": "",
    }
    lock = world.resolve(files)

    assert [("alpha", "1.0")] == [(artifact.name, artifact.version) for artifact in lock.artifacts]
    assert ("libs/gamma/src",) == lock.sources


def test_one_package_pinned_twice_is_refused(world) -> None:
    files = {"requirements.txt": f"a==1 --hash=sha256:{HASH}\na==2 --hash=sha256:{HASH}\n"}

    with pytest.raises(FormatError, match=r"requirements\.txt:2: a is pinned twice"):
        world.resolve(files)


def test_a_plain_requirements_file_is_no_lock(world) -> None:
    with pytest.raises(LockUnpinnedError):
        world.resolve({"requirements.txt": "numpy\n", "pyproject.toml": BARE})


def test_nothing_is_left_behind_beside_the_cache(world, tmp_path: Path, monkeypatch) -> None:
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    world.resolve(UV_PROJECT)

    assert [] == list(place.iterdir())
    assert ["locks"] == [entry.name for entry in world.cache.iterdir()]
    shutil.rmtree(world.cache)


def test_requirements_may_name_wheels_of_the_project_and_urls(world) -> None:
    wheel = make_wheel("a")
    text = f"./wheels/a-1.0-py3-none-any.whl --hash=sha256:{sha256(wheel)}\n"
    text += f"https://files.example/b-2.0-py3-none-any.whl#sha256={'b' * 64}\n"
    lock = world.resolve(
        {"sub/requirements.txt": text, "sub/wheels/a-1.0-py3-none-any.whl": wheel}, "sub"
    )

    assert [("a", "1.0"), ("b", "2.0")] == [(one.name, one.version) for one in lock.artifacts]
    assert lock.artifacts[0].url.startswith("blake3:")
    assert "https://files.example/b-2.0-py3-none-any.whl" == lock.artifacts[1].url


def test_a_uv_lock_without_hashes_says_which_index_gave_none(world) -> None:
    project = BARE + 'dependencies = ["thing"]\n'
    text = """version = 1
revision = 3
requires-python = ">=3.11"
[[package]]
name = "x"
version = "0"
source = { virtual = "." }
dependencies = [{ name = "thing" }]
[package.metadata]
requires-dist = [{ name = "thing" }]
[[package]]
name = "thing"
version = "1.0"
source = { registry = "https://me:secret@index.example/simple" }
wheels = [{ url = "https://index.example/thing-1.0-py3-none-any.whl" }]
"""
    with pytest.raises(LockUnpinnedError, match="no hashes of 1 package") as caught:
        world.resolve({"pyproject.toml": project, "uv.lock": text})

    assert ("thing 1.0: no hashes from https://index.example/simple",) == caught.value.details
