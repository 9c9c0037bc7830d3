"""What a Docker engine gets to build from, and what is kept of what it made."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile

import pytest

from tests.unit.image_parts import DictTree
from xmslurm_repro.errors import UsageError
from xmslurm_repro.image.dockerfile import DockerBuild, _canonical_config, _write_context
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.dockerfile import BuildOptions
from xmslurm_repro.model.image import Descriptor, Layer, LayerKind
from xmslurm_repro.model.reader import Reader

FILES = {
    "Dockerfile": b"FROM scratch\n",
    "*run.sh": b"#!/bin/sh\n",
    "@link": b"run.sh",
    "a.md": b"",
    "docs/b.md": b"",
    "docs/keep.md": b"",
    "build/x": b"",
    "sub/Dockerfile": b"FROM scratch\n",
    "sub/f": b"",
}


def context(files, **wanted) -> bytes:
    stream = io.BytesIO()
    options = BuildOptions(dockerfile=wanted.pop("dockerfile", "Dockerfile"))
    _write_context(DockerBuild(tree=DictTree(files), options=options, **wanted), stream)
    return stream.getvalue()


def names(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return archive.getnames()


def test_the_context_is_the_snapshot_to_the_byte():
    data = context(FILES)

    assert data == context(dict(reversed(FILES.items())))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert {"run.sh": 0o755, "a.md": 0o644} == {
            name: archive.getmember(name).mode for name in ("run.sh", "a.md")
        }
        assert "run.sh" == archive.getmember("link").linkname


def test_the_context_may_be_a_folder():
    assert ["Dockerfile", "f"] == names(context(FILES, folder="sub"))


def test_dockerignore_decides_as_docker_does_and_never_against_the_dockerfile():
    ignore = b"# words\n\n**/*.md\n!docs/keep.md\nbuild\nDocker*\nsub\n"
    found = names(context({**FILES, ".dockerignore": ignore}))

    assert [".dockerignore", "Dockerfile", "docs/keep.md", "link", "run.sh"] == found


def test_without_a_dockerfile_there_is_nothing_to_build():
    with pytest.raises(UsageError, match="the snapshot has no sub/Other"):
        context(FILES, folder="sub", dockerfile="Other")


def test_times_and_containers_are_not_kept_in_the_config():
    sha = Digest.sha256(hashlib.sha256(b"").hexdigest())
    blob = Descriptor(media_type="layer", digest=sha, size_bytes=1)
    engine = {
        "architecture": "arm64",
        "variant": "v8",
        "os": "linux",
        "created": "2026-01-01T00:00:00Z",
        "container": "abc",
        "container_config": {"Cmd": ["#(nop)"]},
        "docker_version": "20.10",
        "config": {
            "Hostname": "abc",
            "Env": ["A=b"],
            "User": "",
            "Labels": None,
            "Volumes": {"/data": {}},
            "Image": "sha256:1",
        },
        "history": [
            {"created": "2026-01-01T00:00:00Z", "created_by": "RUN x", "comment": ""},
            {"created": "2026-01-01T00:00:01Z", "created_by": "CMD", "empty_layer": True},
        ],
        "rootfs": {"type": "layers", "diff_ids": ["sha256:0"]},
    }
    layer = Layer(kind=LayerKind.BASE, title="base 1 of 1", diff_id=sha, blob=blob)
    made = json.loads(_canonical_config(Reader(engine, "a config"), [layer]))

    assert {
        "architecture": "arm64",
        "variant": "v8",
        "os": "linux",
        "created": "1970-01-01T00:00:01Z",
        "config": {"Env": ["A=b"], "Volumes": {"/data": {}}},
        "history": [
            {"created": "1970-01-01T00:00:01Z", "created_by": "RUN x"},
            {"created": "1970-01-01T00:00:01Z", "created_by": "CMD", "empty_layer": True},
        ],
        "rootfs": {"type": "layers", "diff_ids": [str(sha)]},
    } == made


def test_here_documents_reach_the_engine_in_other_words():
    text = b'FROM a\nRUN <<EOF\nls\nEOF\nCOPY <<"X" /x\n$y\nX\n'
    data = context({"Dockerfile": text, "f": b""})

    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert ["Dockerfile", "f"] == sorted(set(archive.getnames()) - {".xmslurm-heredoc/0/X"})
        assert 3 == len(archive.getnames())
        assert b"<<" not in archive.extractfile("Dockerfile").read()
        assert b"$y\n" == archive.extractfile(".xmslurm-heredoc/0/X").read()
