"""Locks that only Poetry or PDM can read: what is asked of the tool, and what its answers mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.lock_trees import FilesTree, target
from xmslurm_repro.errors import FormatError, LockMissingError
from xmslurm_repro.lock.project import Choice
from xmslurm_repro.lock.resolve import resolve_lock
from xmslurm_repro.store.memory import MemoryObjectStore

PROJECT = '[project]\nname = "lab"\nversion = "1"\ndependencies = ["a"]\n'
PYLOCK = """lock-version = "1.0"
created-by = "a tool"
[[packages]]
name = "a"
version = "1.0"
wheels = [{name = "a-1.0-py3-none-any.whl", url = "https://x.example/a-1.0-py3-none-any.whl", \
hashes = {sha256 = "DIGITS"}}]
""".replace("DIGITS", "a" * 64)


@pytest.fixture
def on_path(tmp_path, monkeypatch):
    """``on_path("poetry", script)``: a program of that name, and nothing else but the usual."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def put(name: str, script: str) -> None:
        path = folder / name
        path.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\n{script}')
        path.chmod(0o755)

    return put


@pytest.fixture
def resolve(tmp_path):
    store = MemoryObjectStore()

    def resolve(files, *, extras=(), groups=()):
        return resolve_lock(
            FilesTree(store, files),
            "",
            lock_path=None,
            target=target(),
            store=store,
            cache_dir=tmp_path / "cache",
            choice=Choice.of(extras, groups),
        )

    return resolve


def files(lock: str) -> dict[str, str]:
    return {"pyproject.toml": PROJECT, lock: "what only the tool can read"}


def test_poetry_is_asked_for_a_pylock_once(resolve, on_path, tmp_path):
    (tmp_path / "answer").write_text(PYLOCK)
    on_path("poetry", f"grep -q only poetry.lock && cat {tmp_path}/answer\n")
    locks = [resolve(files("poetry.lock"), groups=["dev"], extras=["x"]) for _ in range(2)]

    assert ["a"] == [one.name for one in locks[0].artifacts]
    assert ("poetry.lock", ("dev",), ("x",)) == (locks[0].kind, locks[0].groups, locks[0].extras)
    assert locks[0] == locks[1]
    assert ["export --format pylock.toml --no-interaction --no-ansi --with=dev --extras=x"] == (
        tmp_path / "asked"
    ).read_text().splitlines()


@pytest.mark.parametrize(
    ("lock", "command"),
    [
        ("poetry.lock", "uvx --from poetry --with poetry-plugin-export poetry export"),
        ("pdm.lock", "uvx pdm export --format pylock --output pylock.toml"),
    ],
)
def test_without_the_tool_the_command_is_named(resolve, on_path, lock, command):
    del on_path
    with pytest.raises(LockMissingError, match=f"{lock} is in a format of") as caught:
        resolve(files(lock))
    assert command in caught.value.hint


def test_a_poetry_without_its_plugin_is_as_good_as_none(resolve, on_path):
    on_path("poetry", "echo 'The command \"export\" does not exist.' >&2; exit 1\n")

    with pytest.raises(LockMissingError, match="cannot export it") as caught:
        resolve(files("poetry.lock"))
    assert "poetry-plugin-export" in caught.value.hint


@pytest.mark.parametrize(
    ("lock", "script"),
    [
        ("poetry.lock", "echo 'pyproject.toml changed significantly since' >&2; exit 1\n"),
        ("pdm.lock", '[ "$1" = export ] || { echo "hash doesn\'t match" >&2; exit 1; }\n'),
    ],
)
def test_a_stale_lock_is_refused_with_the_tools_own_command(resolve, on_path, lock, script):
    tool = Path(lock).stem
    on_path(tool, script)

    with pytest.raises(LockMissingError, match=f"{lock} is older than pyproject.toml") as caught:
        resolve(files(lock))
    assert f"Run `{tool} lock` and launch again." == caught.value.hint


def test_a_lock_that_the_tool_cannot_read_shows_what_it_says(resolve, on_path):
    on_path("poetry", "echo Boom >&2; exit 1\n")

    with pytest.raises(FormatError, match="poetry cannot read it") as caught:
        resolve(files("poetry.lock"))
    assert ("Boom",) == caught.value.details


def test_rubbish_from_the_tool_is_no_lock(resolve, on_path):
    on_path("poetry", "echo hello\n")

    with pytest.raises(FormatError, match=r"poetry\.lock"):
        resolve(files("poetry.lock"))
