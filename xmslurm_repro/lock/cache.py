"""What locks meant last time, so that a warm launch starts no other program.

A file is named by the SHA-256 of everything that decided its content, and begins with the
SHA-256 of the rest: a damaged or foreign file is as good as none.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

from xmslurm_repro.errors import FormatError
from xmslurm_repro.lock.select import PinnedFile, Selection
from xmslurm_repro.model.canonical import Json, canonical_json
from xmslurm_repro.model.lock import Artifact
from xmslurm_repro.model.reader import Reader


class SelectionCache:
    """Selections by what they were made from, in a folder that may be deleted at any time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, inputs: Json) -> Selection | None:
        """The selection that was kept for *inputs*, or ``None``."""
        path = self._path(inputs)
        try:
            check, _, payload = path.read_bytes().partition(b"\n")
        except OSError:
            return None
        if check.decode(errors="replace") != hashlib.sha256(payload).hexdigest():
            return None
        try:
            return _from_json(Reader.of_json(payload, str(path)))
        except FormatError:
            return None

    def put(self, inputs: Json, selection: Selection) -> None:
        """Keep *selection*. A cache that cannot be written is no reason to fail."""
        payload = canonical_json(_to_json(selection))
        data = hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload
        path = self._path(inputs)
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                os.replace(temporary, path)
            except OSError:
                os.unlink(temporary)

    def _path(self, inputs: Json) -> Path:
        return self._folder / f"{hashlib.sha256(canonical_json(inputs)).hexdigest()}.json"


def _to_json(selection: Selection) -> dict[str, Json]:
    return {
        "files": [_file_to_json(pinned) for pinned in selection.files],
        "directories": [[name, path] for name, path in selection.directories],
        "python": selection.python,
        "sdists": [_file_to_json(pinned) for pinned in selection.sdists],
    }


def _file_to_json(pinned: PinnedFile) -> dict[str, Json]:
    return {
        **pinned.artifact.to_json(),
        "url": pinned.artifact.url,
        "size_bytes": pinned.artifact.size_bytes,
        "path": pinned.path,
    }


def _from_json(reader: Reader) -> Selection:
    python, sdists = reader.maybe("python"), reader.maybe("sdists")
    return Selection(
        python=python.text() if python else None,
        sdists=tuple(map(_file_from_json, sdists.items())) if sdists else (),
        files=tuple(_file_from_json(item) for item in reader.field("files").items()),
        directories=tuple(
            (name, path)
            for name, path in (item.texts() for item in reader.field("directories").items())
        ),
    )


def _file_from_json(reader: Reader) -> PinnedFile:
    bare = Artifact.from_json(reader)
    url, size, path = reader.maybe("url"), reader.maybe("size_bytes"), reader.maybe("path")
    artifact = Artifact(
        name=bare.name,
        version=bare.version,
        filename=bare.filename,
        sha256=bare.sha256,
        channel=bare.channel,
        url=url.text() if url else None,
        size_bytes=size.integer() if size else None,
    )
    return PinnedFile(artifact=artifact, path=path.text() if path else None)
