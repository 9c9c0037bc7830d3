"""Locks and registries: whatever a file or a server says, only errors of ours come out."""

from __future__ import annotations

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.lock_trees import FilesTree, target
from xmslurm_repro.errors import ReproError
from xmslurm_repro.image.registry_auth import parse_challenges
from xmslurm_repro.image.registry_documents import is_index, manifest_blobs, media_type
from xmslurm_repro.lock.project import declared_dependencies, standard_dependencies
from xmslurm_repro.lock.requirements import read_requirements
from xmslurm_repro.lock.select import read_pylock, select
from xmslurm_repro.store.memory import MemoryObjectStore

WORDS = st.sampled_from(
    [
        "a==1.0", "A_b[x,y]===2", "a>=1", "--hash=sha256:" + "0" * 64, "--hash", "\\\n", "\n", " ",
        "# via", "-e", ".", "./x", "../..", "-r", "requirements.txt", "more.txt", "; python_version",
        "; sys_platform == 'linux'", "@", "https://x.example/a-1-py3-none-any.whl", "git+https://x",
        "--index-url", "=", "'", '"', "\x00", "é", "--", "-",
    ]
)  # fmt: skip
fast = settings(database=None, deadline=None, max_examples=300)


@fast
@given(st.lists(WORDS, max_size=12).map("".join) | st.text(max_size=60))
def test_any_requirements_file_is_read_or_refused(text) -> None:
    tree = FilesTree(MemoryObjectStore(), {"requirements.txt": text, "more.txt": "b==2"})

    with contextlib.suppress(ReproError):
        found = read_requirements(tree, "requirements.txt")
        assert all(pin.hashes for pin in found.pins)
        assert not any(path.startswith(("/", "..")) for path in found.directories)


TOML = st.sampled_from(
    [
        'lock-version = "1.0"\n', 'created-by = "x"\n', "packages = []\n", "[[packages]]\n",
        'name = "a"\n', 'version = "1.0"\n', 'version = "x"\n', "marker = \"sys_platform == 'l'\"\n",
        'marker = "nonsense"\n', "marker = \"extra == 'x'\"\n", 'requires-python = ">=3"\n',
        'environments = ["os_name == \'nt\'"]\n', 'directory = { path = "x" }\n',
        'wheels = [{ url = "https://x.example/a-1.0-py3-none-any.whl", hashes = { sha256 = "0" } }]\n',
        'wheels = [{ path = "a-1.0-py3-none-any.whl", hashes = { sha512 = "0" } }]\n',
        'wheels = [{ url = "https://x.example/nonsense", hashes = { sha256 = "0" } }]\n',
        'sdist = { url = "https://x.example/a-1.0.tar.gz", hashes = { sha256 = "0" } }\n',
        'archive = { url = "https://x.example/a.whl", hashes = { sha256 = "0" } }\n',
        'archive = { path = "a-1-py3-none-any.whl", hashes = { sha256 = "0" } }\n',
    ]
)  # fmt: skip


@fast
@given(st.lists(TOML, max_size=9).map("".join))
def test_any_pylock_is_read_or_refused(text) -> None:
    head = 'lock-version = "1.0"\ncreated-by = "x"\n'
    for whole in (text, head + text, head + '[[packages]]\nname = "a"\n' + text):
        with contextlib.suppress(ReproError):
            select(read_pylock(whole, "pylock.toml"), target(), "pylock.toml")


@fast
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["project", "dependencies", "dynamic", "tool", "poetry", "x"]),
                inner,
                max_size=3,
            )
        ),
        max_leaves=8,
    )
)
def test_any_project_file_is_read_or_refused(document) -> None:
    text = "\n".join(f"{key} = {_toml(value)}" for key, value in _top(document).items())
    tree = FilesTree(MemoryObjectStore(), {"pyproject.toml": text})

    with contextlib.suppress(ReproError):
        declared_dependencies(tree, "pyproject.toml")
        standard_dependencies(tree, "pyproject.toml")


def _top(document) -> dict:
    return document if isinstance(document, dict) else {"project": document}


def _toml(value) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, bool) or value is None:
        return str(bool(value)).lower()
    return str(value) if isinstance(value, int) else repr(value)


@fast
@given(st.lists(st.text(alphabet='Basic ereralm="\\,x=;:/ \t', max_size=40), max_size=3))
def test_any_challenge_is_read(headers) -> None:
    for challenge in parse_challenges(headers):
        assert challenge.scheme == challenge.scheme.lower().strip()


@fast
@given(
    st.binary(max_size=40) | st.sampled_from([b"[]", b"{}", b'{"layers": 3, "config": 4}', b"1"])
)
def test_any_document_is_read_or_refused(data) -> None:
    with contextlib.suppress(ReproError):
        is_index(data, "x")
        media_type(data, "text/plain", "x")
        manifest_blobs(data, "x")
