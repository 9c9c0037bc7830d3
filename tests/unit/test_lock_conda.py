"""conda-lock.yml and pixi.lock: which packages they mean for a target."""

from __future__ import annotations

import hashlib

import pytest

from tests.support.conda_packages import conda_lock_text, make_conda, pixi_lock_text
from tests.support.lock_trees import FilesTree, target
from xmslurm_repro.errors import (
    FormatError,
    LockMissingError,
    LockUnpinnedError,
    NotSupportedError,
    NoWheelError,
    UsageError,
)
from xmslurm_repro.lock.project import Choice
from xmslurm_repro.lock.resolve import resolve_lock
from xmslurm_repro.model.lock import Artifact
from xmslurm_repro.model.reader import Reader
from xmslurm_repro.store.memory import MemoryObjectStore

CHANNEL = "https://conda.example/forge"
PYTHON = make_conda("python", {}, version="3.12.4", build="h0_0_cpython", depends=["tzdata"])
TZDATA = make_conda("tzdata", {}, version="2024a", noarch="generic", suffix=".tar.bz2")
NUMPY = make_conda("numpy", {}, version="1.26.4", depends=["__glibc >=2.17,<3.0.a0", "python"])
PACKAGES = [PYTHON, TZDATA, NUMPY]
DIGITS = hashlib.sha256(b"wheel").hexdigest()
WHEEL = "https://files.example/six-1.17.0-py2.py3-none-any.whl"
PIP = f"""- name: six
  version: 1.17.0
  manager: pip
  platform: linux-64
  dependencies: {{}}
  url: {WHEEL}
  hash:
    sha256: {DIGITS}
  category: main
  optional: false
"""
PIXI_WHEEL = f"- pypi: {WHEEL}\n  name: six\n  version: 1.17.0\n  sha256: {DIGITS}\n"


@pytest.fixture
def resolve(tmp_path):
    store = MemoryObjectStore()

    def resolve(files, *, groups=(), on=None, path=None):
        return resolve_lock(
            FilesTree(store, files),
            "",
            lock_path=path,
            target=on or target(),
            store=store,
            cache_dir=tmp_path / "cache",
            choice=Choice.of((), groups),
        )

    return resolve


LOCKS = {
    "conda-lock.yml": conda_lock_text(CHANNEL, PACKAGES, pip=PIP),
    "pixi.lock": pixi_lock_text(CHANNEL, PACKAGES, pypi=[WHEEL], described=PIXI_WHEEL),
}


@pytest.mark.parametrize("name", LOCKS)
def test_both_kinds_lead_to_the_same_packages(resolve, name):
    lock = resolve({name: LOCKS[name], "main.py": ""})
    numpy, python, six, tzdata = lock.artifacts

    assert name == lock.kind
    assert ["numpy", "python", "six", "tzdata"] == [one.name for one in lock.artifacts]
    assert [True, True, False, True] == [one.is_conda for one in lock.artifacts]
    assert f"{CHANNEL}/linux-64" == numpy.channel
    assert f"{CHANNEL}/noarch" == tzdata.channel
    assert NUMPY.sha256 == numpy.sha256.hex
    assert ("numpy-1.26.4-0.conda", "tzdata-2024a-0.tar.bz2") == (numpy.filename, tzdata.filename)
    assert WHEEL == six.url
    assert "3.12.4" == lock.target.python == python.version
    assert "/xm/venv/bin/python3.12" == lock.target.python_executable
    assert lock == resolve({name: LOCKS[name], "main.py": ""})  # from the cache


def test_an_artifact_of_conda_reads_back_with_its_address(resolve):
    numpy = resolve({"pixi.lock": LOCKS["pixi.lock"]}).artifacts[0]
    again = Artifact.from_json(Reader(numpy.to_json(), "test"))

    assert numpy == again
    assert NUMPY.url(CHANNEL) == again.url


def test_wheels_are_chosen_for_the_python_of_the_environment(resolve):
    wheel = WHEEL.replace("six-1.17.0-py2.py3-none-any", "six-1.17.0-cp311-cp311-linux_x86_64")
    text = conda_lock_text(CHANNEL, PACKAGES, pip=PIP.replace(WHEEL, wheel))

    with pytest.raises(NoWheelError, match="six") as caught:
        resolve({"conda-lock.yml": text})
    assert "Python 3.12.4" in caught.value.details[0]


def test_a_source_distribution_among_them_is_refused(resolve):
    text = conda_lock_text(
        CHANNEL, PACKAGES, pip=PIP.replace(WHEEL, "https://files.example/six-1.17.0.tar.gz")
    )
    with pytest.raises(NoWheelError) as caught:
        resolve({"conda-lock.yml": text})
    assert "six 1.17.0: only six-1.17.0.tar.gz" in caught.value.details


def test_packages_without_sha256_are_refused_all_at_once(resolve):
    text = conda_lock_text(CHANNEL, PACKAGES)
    for one in PACKAGES[:2]:
        text = text.replace(f"    sha256: {one.sha256}\n", "")

    with pytest.raises(LockUnpinnedError, match="2 packages") as caught:
        resolve({"conda-lock.yml": text})
    assert [
        "python 3.12.4: only an MD5, which anybody can forge",
        "tzdata 2024a: only an MD5, which anybody can forge",
    ] == list(caught.value.details)


@pytest.mark.parametrize(
    ("libc", "spec", "fits"),
    [
        (("glibc", 2, 36), ">=2.17,<3.0.a0", True),
        (("glibc", 2, 12), ">=2.17,<3.0.a0", False),
        (("glibc", 2, 36), ">=2.39|2.36.*", True),
        (("glibc", 2, 36), "2.17.*", False),
        (("glibc", 2, 36), "", True),
        (("musl", 1, 2), ">=1", False),
    ],
)
@pytest.mark.parametrize("kind", LOCKS)
def test_what_packages_demand_of_the_c_library_is_checked(resolve, kind, libc, spec, fits):
    package = make_conda("needy", {}, depends=[f"__glibc {spec}".strip(), "__linux", "__cuda >=12"])
    text = {"conda-lock.yml": conda_lock_text, "pixi.lock": pixi_lock_text}[kind]
    files = {kind: text(CHANNEL, [package])}
    if fits:
        assert "needy" == resolve(files, on=target(libc=libc)).artifacts[0].name
        return
    with pytest.raises(FormatError, match="cannot run") as caught:
        resolve(files, on=target(libc=libc))
    assert "__glibc" in caught.value.details[1]


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_for_another_platform_is_refused_with_those_it_has(resolve, name):
    with pytest.raises(FormatError, match="not for linux-aarch64") as caught:
        resolve({name: LOCKS[name]}, on=target(architecture="arm64"))
    assert ("platforms: linux-64",) == caught.value.details


def test_categories_of_conda_lock_are_groups(resolve):
    text = conda_lock_text(CHANNEL, PACKAGES).replace("category: main", "category: dev", 1)

    assert 2 == len(resolve({"conda-lock.yml": text}).artifacts)
    lock = resolve({"conda-lock.yml": text}, groups=["dev"])
    assert (3, ("dev",)) == (len(lock.artifacts), lock.groups)
    with pytest.raises(UsageError, match="has no packages for docs"):
        resolve({"conda-lock.yml": text}, groups=["docs"])


def test_an_environment_of_pixi_is_a_group(resolve):
    text = LOCKS["pixi.lock"].replace(
        "packages:\n- conda",
        "  cuda:\n    channels:\n    - url: x\n    packages:\n      linux-64:\n"
        f"      - conda: {TZDATA.url(CHANNEL)}\npackages:\n- conda",
    )

    assert 4 == len(resolve({"pixi.lock": text}).artifacts)
    assert ["tzdata"] == [
        one.name for one in resolve({"pixi.lock": text}, groups=["cuda"]).artifacts
    ]
    with pytest.raises(UsageError, match="no environment docs") as caught:
        resolve({"pixi.lock": text}, groups=["docs"])
    assert ("environments: cuda, default",) == caught.value.details


@pytest.mark.parametrize("version", [4, 5])
def test_earlier_versions_of_pixi_locks_are_read(resolve, version):
    text = LOCKS["pixi.lock"].replace("version: 6", f"version: {version}")
    head, _, packages = text.partition("\npackages:\n")
    described = packages.replace("- conda: ", "- kind: conda\n  url: ")
    described = described.replace("- pypi: ", "- kind: pypi\n  url: ")
    lock = resolve({"pixi.lock": f"{head}\npackages:\n{described}"})

    assert resolve({"pixi.lock": LOCKS["pixi.lock"]}).artifacts == lock.artifacts


def test_platforms_of_version_7_have_names_of_their_own(resolve):
    text = LOCKS["pixi.lock"].replace("      linux-64:\n", "      gpu-node:\n")
    text = text.replace(
        "version: 6\n", "version: 7\nplatforms:\n- name: gpu-node\n  subdir: linux-64\n"
    )

    assert 4 == len(resolve({"pixi.lock": text}).artifacts)


def test_a_folder_in_a_pixi_lock_is_imported_from_the_snapshot(resolve):
    described = "- pypi: ./libs/tool\n  name: tool\n  version: 1.0\n  editable: true\n"
    text = pixi_lock_text(CHANNEL, PACKAGES, pypi=["./libs/tool"], described=described)
    pyproject = '[project]\nname = "tool"\nversion = "1.0"\n'
    files = {"libs/tool/pyproject.toml": pyproject, "libs/tool/src/tool/__init__.py": ""}
    lock = resolve({"pixi.lock": text, **files})

    assert ("libs/tool/src",) == lock.sources
    assert ["tool"] == [project.name for project in lock.projects]


def test_a_package_that_pixi_would_build_is_refused(resolve):
    text = pixi_lock_text(CHANNEL, PACKAGES).replace(
        "packages:\n- conda", "packages:\n- conda: ./recipe\n  name: mine\n  version: 1\n- conda"
    )
    text = text.replace("linux-64:\n", "linux-64:\n      - conda: ./recipe\n", 1)

    with pytest.raises(NoWheelError) as caught:
        resolve({"pixi.lock": text})
    assert "mine 1: built from sources in ./recipe" in caught.value.details


def test_a_free_threaded_python_is_refused(resolve):
    python = make_conda("python", {}, version="3.13.1", build="h9_102_cp313t")

    with pytest.raises(NotSupportedError, match="free-threaded"):
        resolve({"pixi.lock": pixi_lock_text(CHANNEL, [python])})


def test_tokens_and_passwords_of_channels_stay_out_of_what_is_kept(resolve):
    secret = "https://me:word@conda.example/t/tk-1234/forge"
    lock = resolve({"pixi.lock": pixi_lock_text(secret, [TZDATA])})
    one = lock.artifacts[0]

    assert f"{CHANNEL}/noarch" == one.channel
    assert TZDATA.url(secret) == one.url
    assert "word" not in str(lock.to_json())
    assert "tk-1234" not in str(lock.to_json())


def test_the_nearest_lock_wins_and_uv_goes_before_conda(resolve):
    text = LOCKS["conda-lock.yml"]
    assert "conda-lock.yml" == resolve({"conda-lock.yml": text, "requirements.txt": "six"}).kind
    assert (
        "pylock.toml"
        == resolve(
            {
                "conda-lock.yml": text,
                "pylock.toml": 'lock-version = "1.0"\ncreated-by = "x"\npackages = []\n',
            }
        ).kind
    )
    named = {"envs/gpu.conda-lock.yml": text, "requirements.txt": ""}
    assert "conda-lock.yml" == resolve(named, path="envs/gpu.conda-lock.yml").kind


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("conda-lock.yml", "version: 2\n"),
        ("conda-lock.yml", "version: 1\npackage: 3\n"),
        ("conda-lock.yml", "{ not: [yaml"),
        ("conda-lock.yml", "- a list"),
        ("pixi.lock", "version: 99\n"),
        ("pixi.lock", "version: 6\nenvironments: {default: {packages: {linux-64: [{conda: x}]}}}"),
        ("pixi.lock", "version: 6\nenvironments: []\n"),
        ("pixi.lock", "\x00"),
    ],
)
def test_rubbish_is_refused_by_name(resolve, name, text):
    with pytest.raises(FormatError, match=name):
        resolve({name: text})


ENVIRONMENT = """\
channels: [conda-forge]
dependencies:
- python =3.12
- conda-forge::numpy>=1.20  # needed
- gxx  # [osx]
- pip
- pip:
  - Six>=1
  - -e .
  - https://files.example/x.whl
"""


def test_a_package_that_was_added_after_locking_is_noticed(resolve):
    text = LOCKS["conda-lock.yml"]
    with pytest.raises(LockMissingError, match="older than environment.yml") as caught:
        resolve({"conda-lock.yml": text, "environment.yml": ENVIRONMENT + "- scipy\n"})
    assert ("pip: not in the lock", "scipy: not in the lock") == caught.value.details
    assert "conda-lock lock --file environment.yml" in caught.value.hint

    without = ENVIRONMENT.replace("- pip\n", "")
    assert resolve({"conda-lock.yml": text, "environment.yml": without}) is not None
    assert resolve({"conda-lock.yml": text, "environment.yml": "[]"}) is not None


@pytest.mark.parametrize(("name", "head"), [("pixi.toml", ""), ("pyproject.toml", "tool.pixi.")])
def test_pixis_own_file_is_compared_by_name(resolve, name, head):
    text = f'[{head}dependencies]\nnumpy = "*"\n[{head}pypi-dependencies]\nsix = "*"\n'
    files = {"pixi.lock": LOCKS["pixi.lock"]}

    assert resolve({**files, name: text}) is not None
    with pytest.raises(LockMissingError, match=f"older than {name}") as caught:
        resolve({**files, name: text + 'scipy = "*"\n'})
    assert ("scipy: not in the lock",) == caught.value.details
    assert "pixi lock" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "text", "command"),
    [
        ("gpu-environment.yml", "", "conda-lock lock --file envs/gpu-environment.yml"),
        ("pixi.toml", "", "pixi lock --manifest-path envs/pixi.toml"),
        ("conda-linux-64.lock", "# x\n@EXPLICIT\nhttps://x.example/a.conda\n", "conda-lock lock"),
    ],
)
def test_what_pins_no_conda_packages_is_refused_with_the_command(resolve, name, text, command):
    with pytest.raises(LockUnpinnedError) as caught:
        resolve({f"envs/{name}": text}, path=f"envs/{name}")
    assert command in caught.value.hint
