"""Locks: choosing wheels from a pylock.toml, and saying everything that is wrong at once."""

from __future__ import annotations

from pathlib import Path

import packaging.markers
import pytest

from tests.support.lock_trees import target
from xmslurm_repro.errors import FormatError, NoWheelError
from xmslurm_repro.lock.select import read_pylock, select

GOLDEN = Path(__file__).parent.parent / "golden" / "lock"
LOCK = (GOLDEN / "project" / "pylock.toml").read_text()
HASH = "0" * 64

TARGETS = {
    "Debian 12, amd64": target(),
    "Debian 12, arm64": target(architecture="arm64"),
    "Alpine 3.20, amd64, Python 3.12": target(python="3.12.3", libc=("musl", 1, 2)),
    "Alpine 3.20, arm64, Python 3.14": target(
        python="3.14.0", architecture="arm64", libc=("musl", 1, 2)
    ),
    "Rocky 8, Python 3.11": target(python="3.11.9", libc=("glibc", 2, 28)),
    "An old system with glibc 2.12": target(libc=("glibc", 2, 12)),
    "CentOS 7, Python 3.13": target(python="3.13.0", libc=("glibc", 2, 17)),
}


def chosen(text: str, **options) -> list[str]:
    lock = read_pylock(text, "pylock.toml")
    found = select(lock, target(**options), "pylock.toml")
    return [file.artifact.filename for file in found.files]


def package(name: str, source: str) -> str:
    version = "2.0" if "-2.0-" in source else "1.0"
    return f'[[packages]]\nname = "{name}"\nversion = "{version}"\n{source}\n'


def lock_of(*packages: str, head: str = "") -> str:
    return f'lock-version = "1.0"\ncreated-by = "test"\n{head}\n' + "\n".join(packages)


def wheel(filename: str, digits: str = HASH) -> str:
    url = f"https://files.example/{filename}"
    return f'wheels = [{{ url = "{url}", hashes = {{ sha256 = "{digits}" }} }}]'


def sdist(name: str) -> str:
    url = f"https://files.example/{name}-1.0.tar.gz"
    return f'sdist = {{ url = "{url}", hashes = {{ sha256 = "{HASH}" }} }}'


def test_each_platform_gets_its_own_wheels(golden) -> None:
    lines = []
    for title, platform in TARGETS.items():
        lines.append(f"{title}:")
        try:
            found = select(read_pylock(LOCK, "pylock.toml"), platform, "pylock.toml")
            lines += [f"  {file.artifact.filename}" for file in found.files]
        except NoWheelError as error:
            lines += [f"  {error.message}", *(f"    {line}" for line in error.details)]

    golden("lock/selections.txt", "\n".join(lines) + "\n")


def test_the_launching_machine_leaves_no_trace(monkeypatch) -> None:
    before = chosen(LOCK)
    poison = dict.fromkeys(packaging.markers.default_environment(), "9.9")
    monkeypatch.setattr(packaging.markers, "default_environment", lambda: dict(poison))

    assert before == chosen(LOCK)
    assert "typing_extensions" in " ".join(before)


def test_everything_without_a_wheel_is_listed_at_once(golden) -> None:
    text = lock_of(
        package("only-source", sdist("only_source")),
        package("old-python", wheel("old_python-1.0-cp38-cp38-manylinux_2_17_x86_64.whl")),
        package(
            "other-system",
            wheel("other_system-1.0-py3-none-win_amd64.whl") + "\n" + sdist("other_system"),
        ),
        package(
            "from-git",
            'vcs = { type = "git", url = "https://me:secret@git.example/x.git", '
            f'commit-id = "{"a" * 40}" }}',
        ),
        package(
            "archive",
            f'archive = {{ url = "https://files.example/a.zip", hashes = {{ sha256 = "{HASH}" }} }}',
        ),
        package("fine", wheel("fine-1.0-py3-none-any.whl")),
    )

    with pytest.raises(NoWheelError) as caught:
        chosen(text)

    error = caught.value
    shown = "\n".join([error.message, *error.details, f"hint: {error.hint}"]) + "\n"
    golden("lock/no-wheel.txt", shown)
    assert "secret" not in shown


def test_an_archive_that_is_a_wheel_is_a_wheel() -> None:
    url = "https://files.example/fine-1.0-py3-none-any.whl"
    text = lock_of(
        package("fine", f'archive = {{ url = "{url}", hashes = {{ sha256 = "{HASH}" }} }}')
    )

    assert ["fine-1.0-py3-none-any.whl"] == chosen(text)


def test_an_archive_that_is_a_wheel_for_another_platform_does_not_fit() -> None:
    url = "https://files.example/odd-1.0-cp311-cp311-win_amd64.whl"
    text = lock_of(
        package("odd", f'archive = {{ url = "{url}", hashes = {{ sha256 = "{HASH}" }} }}')
    )

    with pytest.raises(NoWheelError) as caught:
        chosen(text)
    assert "odd 1.0: only odd-1.0-cp311-cp311-win_amd64.whl" in caught.value.details


def test_the_best_of_several_wheels_is_taken() -> None:
    files = [
        "a-1.0-py3-none-any.whl",
        "a-1.0-cp311-cp311-manylinux_2_17_x86_64.whl",
        "a-1.0-cp311-cp311-manylinux_2_34_x86_64.whl",
        "a-1.0-cp311-cp311-manylinux_2_39_x86_64.whl",
        "a-1.0-cp39-abi3-manylinux_2_34_x86_64.whl",
    ]
    listed = ", ".join(
        f'{{ url = "https://files.example/{name}", hashes = {{ sha256 = "{HASH}" }} }}'
        for name in files
    )
    text = lock_of(package("a", f"wheels = [{listed}]"))

    assert ["a-1.0-cp311-cp311-manylinux_2_34_x86_64.whl"] == chosen(text)


def test_optional_parts_are_left_out() -> None:
    marked = [
        package("plain", wheel("plain-1.0-py3-none-any.whl")),
        package("extra", "marker = \"'gui' in extras\"\n" + wheel("extra-1.0-py3-none-any.whl")),
        package(
            "dev", "marker = \"'dev' in dependency_groups\"\n" + wheel("dev-1.0-py3-none-any.whl")
        ),
    ]
    head = 'extras = ["gui"]\ndependency-groups = ["dev"]\ndefault-groups = []'

    assert ["plain-1.0-py3-none-any.whl"] == chosen(lock_of(*marked, head=head))


def test_a_lock_for_another_python_says_so() -> None:
    text = lock_of(head='requires-python = ">=3.12"\npackages = []')

    with pytest.raises(NoWheelError) as caught:
        chosen(text)

    assert "not for Python 3.11.2" in caught.value.message
    assert ">=3.12" in caught.value.message


def test_two_versions_of_one_package_are_refused() -> None:
    text = lock_of(
        package("a", wheel("a-1.0-py3-none-any.whl")),
        package("a", wheel("a-2.0-py3-none-any.whl")),
    )

    with pytest.raises(FormatError, match="more than one version applies of a"):
        chosen(text)


def test_only_sha256_is_a_pin() -> None:
    digits = "0" * 32
    text = lock_of(
        package(
            "a",
            'wheels = [{ url = "https://files.example/a-1.0-py3-none-any.whl", '
            f'hashes = {{ md5 = "{digits}" }} }}]',
        )
    )

    with pytest.raises(FormatError, match=r"a-1.0-py3-none-any.whl has no SHA-256, only md5"):
        chosen(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lock-version = ", "not TOML"),
        ('lock-version = "1.0"\npackages = []', "created-by"),
        ('lock-version = "9.0"\ncreated-by = "x"\npackages = []', "9.0"),
        (lock_of('[[packages]]\nname = "a"\n'), "packages"),
    ],
)
def test_a_broken_lock_names_the_place(text, expected) -> None:
    with pytest.raises(FormatError) as caught:
        read_pylock(text, "sub/pylock.toml")

    assert caught.value.message.startswith("sub/pylock.toml: ")
    assert expected in caught.value.message


def test_source_distributions_are_chosen_only_where_they_are_wanted_and_there_is_no_wheel():
    digits = "a" * 64
    lock = read_pylock(
        f"""lock-version = "1.0"
created-by = "x"
[[packages]]
name = "both"
version = "1.0"
sdist = {{ url = "https://x.example/both-1.0.tar.gz", hashes = {{ sha256 = "{digits}" }} }}
wheels = [{{ url = "https://x.example/both-1.0-py3-none-any.whl", hashes = {{ sha256 = "{digits}" }} }}]
[[packages]]
name = "only"
version = "2.0"
sdist = {{ url = "https://x.example/only-2.0.tar.gz", hashes = {{ sha256 = "{digits}" }} }}
[[packages]]
name = "direct"
archive = {{ url = "https://x.example/direct-3.0.zip", hashes = {{ sha256 = "{digits}" }} }}
""",
        "test",
    )
    found = select(lock, target(), "test", with_sdists=True)

    assert ["both"] == [file.artifact.name for file in found.files]
    assert [("direct", "3.0"), ("only", "2.0")] == [
        (file.artifact.name, file.artifact.version) for file in found.sdists
    ]
    with pytest.raises(NoWheelError, match="2 packages: direct, only"):
        select(lock, target(), "test")


def test_a_wheel_elsewhere_on_this_machine_is_no_part_of_the_project():
    lock = read_pylock(
        f"""lock-version = "1.0"
created-by = "pip"
[[packages]]
name = "a"
version = "1.0"
wheels = [{{ url = "file:///shared/a-1.0-py3-none-any.whl", hashes = {{ sha256 = "{"a" * 64}" }} }}]
""",
        "test",
    )
    [file] = select(lock, target(), "test").files

    assert (None, "file:///shared/a-1.0-py3-none-any.whl") == (file.path, file.artifact.url)
