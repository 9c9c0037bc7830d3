"""Locks: requirements files, as pip reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.lock_trees import FilesTree
from xmslurm_repro.errors import FormatError, LockUnpinnedError
from xmslurm_repro.lock.requirements import Requirements, read_requirements
from xmslurm_repro.store.memory import MemoryObjectStore

GOLDEN = Path(__file__).parent.parent / "golden" / "lock"
A, B = "a" * 64, "b" * 64


def read(text: str, path: str = "requirements.txt", **more: str) -> Requirements:
    files = {path: text, **{name.replace("__", "/"): value for name, value in more.items()}}
    return read_requirements(FilesTree(MemoryObjectStore(), files), path)


def test_what_uv_writes_is_read_in_full() -> None:
    found = read((GOLDEN / "project" / "requirements.txt").read_text())

    assert ["bcrypt", "colorama", "markupsafe", "six", "typing-extensions"] == [
        pin.name for pin in found.pins
    ]
    assert "5.0.0" == found.pins[0].version
    assert len(found.pins[0].hashes) > 20


def test_lines_may_be_continued_and_commented() -> None:
    found = read(
        f"# made by hand\n\nA_b.C == 1.0 ; python_version > '3' \\\n"
        f"    --hash=sha256:{A} \\\n"
        f"    --hash=sha256:{B}  # trailing\n    # via x\nd[x,y]===2  --hash sha256:{A}\n"
    )

    assert [("a-b-c", "1.0"), ("d", "2")] == [(pin.name, pin.version) for pin in found.pins]
    assert {f"sha256:{A}", f"sha256:{B}"} == found.pins[0].hashes
    assert ["requirements.txt:3", "requirements.txt:7"] == [pin.where for pin in found.pins]


def test_a_mark_inside_of_a_word_begins_no_comment() -> None:
    found = read(f"a @ https://files.example/a-1-py3-none-any.whl#egg=a --hash=sha256:{A}\n")

    assert "https://files.example/a-1-py3-none-any.whl#egg=a" == found.pins[0].requirement.url


def test_includes_are_read_from_the_snapshot_once() -> None:
    found = read(
        f"-r ../base.txt\n--requirement=more.txt\nc==3 --hash=sha256:{A}\n",
        "sub/requirements.txt",
        **{
            "base.txt": f"a==1 --hash=sha256:{A}\n-r sub/more.txt\n",
            "sub__more.txt": f"b==2 --hash=sha256:{B}\n-r ../base.txt\n",
        },
    )

    assert ["a", "b", "c"] == [pin.name for pin in found.pins]
    assert ["sub/requirements.txt", "base.txt", "sub/more.txt"] == found.paths


def test_where_packages_come_from_is_noted() -> None:
    found = read(
        "-i https://index.example/simple\n--extra-index-url=https://more.example/simple\n"
        "--find-links wheels\n--no-index\n--require-hashes\n--only-binary :all:\n-c bounds.txt\n"
    )

    assert [
        ("--index-url", "https://index.example/simple"),
        ("--extra-index-url", "https://more.example/simple"),
        ("--find-links", "wheels"),
        ("--no-index",),
    ] == found.index_options


def test_local_packages_are_folders_of_the_snapshot() -> None:
    found = read("-e .\n./libs/a\n-e file:libs/b[extra]\n../c/\n", "sub/requirements.txt")

    assert ["sub", "sub/libs/a", "sub/libs/b", "c"] == found.directories


def test_everything_that_is_not_pinned_is_listed_at_once(golden) -> None:
    with pytest.raises(LockUnpinnedError) as caught:
        read(
            f"numpy\nscipy>=1.0 --hash=sha256:{A}\nfine==1 --hash=sha256:{A}\npandas==2.0\n"
            f"rich==13.* --hash=sha256:{A}\ntorch==2.0 --hash=md5:{'0' * 32}\n-r more.txt\n"
            "git-thing @ git+https://me:secret@git.example/x.git@main\n"
            "-e git+ssh://git@git.example/y.git#egg=y\ngit+https://git.example/z.git\n",
            **{"more.txt": "six==1.0\n"},
        )

    error = caught.value
    golden(
        "lock/unpinned.txt",
        "\n".join([error.message, *error.details, f"hint: {error.hint}"]) + "\n",
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a==", "requirements.txt:1: 'a==' is no requirement"),
        ("--frobnicate x", "requirements.txt:1: the option --frobnicate is not understood"),
        ("-r ../../x.txt", "requirements.txt:1: ../../x.txt is outside of the snapshot"),
        ("-r /etc/passwd", "requirements.txt:1: /etc/passwd is outside of the snapshot"),
        ("/opt/a", "requirements.txt:1: /opt/a is outside of the snapshot"),
        ("-r gone.txt", "gone.txt: no such file in the snapshot"),
        ("-r 'x", "requirements.txt:1: No closing quotation"),
    ],
)
def test_a_broken_line_is_named(line, expected) -> None:
    with pytest.raises(FormatError) as caught:
        read(line + "\n")

    assert caught.value.message.startswith(expected)


@pytest.mark.parametrize(
    ("line", "name", "url", "path"),
    [
        (
            f"https://files.example/A_b-1.0-py3-none-any.whl#sha256={A}",
            "a-b",
            f"https://files.example/A_b-1.0-py3-none-any.whl#sha256={A}",
            None,
        ),
        (
            f"https://files.example/a-1.0%2Bcpu-py3-none-any.whl --hash=sha256:{A}",
            "a",
            "https://files.example/a-1.0%2Bcpu-py3-none-any.whl",
            None,
        ),
        (
            f"./wheels/a-1.0-py3-none-any.whl ; python_version > '3' --hash=sha256:{A}",
            "a",
            "file:./wheels/a-1.0-py3-none-any.whl",
            "sub/wheels/a-1.0-py3-none-any.whl",
        ),
        (
            f"a @ file:../a-1.0-py3-none-any.whl --hash=sha256:{A}",
            "a",
            "file:../a-1.0-py3-none-any.whl",
            "a-1.0-py3-none-any.whl",
        ),
    ],
)
def test_a_wheel_may_be_named_by_its_url_or_path_alone(line, name, url, path) -> None:
    [pin] = read(f"{line}\n", "sub/requirements.txt").pins

    assert (name, url, path) == (pin.name, pin.requirement.url, pin.path)
    assert {f"sha256:{A}"} == pin.hashes


def test_a_url_or_wheel_without_a_hash_is_not_pinned() -> None:
    with pytest.raises(LockUnpinnedError) as caught:
        read("https://files.example/a-1.0-py3-none-any.whl\n./b-1.0-py3-none-any.whl\n")

    assert 2 == len(caught.value.details)
