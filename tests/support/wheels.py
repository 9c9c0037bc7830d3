"""Tiny wheels, and a package index that offers them."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping

from tests.support.loopback import Reply, Request
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.lock import Artifact


def make_wheel(name: str, version: str = "1.0", *, content: str = "") -> bytes:
    """A wheel with one module; valid enough for uv to read."""
    info = f"{name}-{version}.dist-info"
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for path, text in {
            f"{name}.py": f"VERSION = {version!r}\n{content}",
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{info}/RECORD": "",
        }.items():
            archive.writestr(zipfile.ZipInfo(path), text)
    return held.getvalue()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def artifact(filename: str, data: bytes, *, url: str | None = None) -> Artifact:
    """What a lock would say of a wheel."""
    name, version = filename.split("-")[:2]
    return Artifact(
        name=name,
        version=version,
        filename=filename,
        sha256=Digest.sha256(sha256(data)),
        url=url,
        size_bytes=len(data),
    )


class Index:
    """
    A simple index (PEP 503, PEP 691) of *files*, by file name.

    Args:
        has_json: Whether it speaks JSON; old mirrors know only HTML.
        has_hashes: Whether it says what its files hash to.
        login: The ``Authorization`` header that it demands.
    """

    def __init__(
        self,
        files: Mapping[str, bytes],
        *,
        has_json: bool = True,
        has_hashes: bool = True,
        login: str | None = None,
    ) -> None:
        self.files = dict(files)
        self.has_json, self.has_hashes, self.login = has_json, has_hashes, login

    def __call__(self, request: Request) -> Reply:
        path = request.path.partition("?")[0]
        if self.login is not None and request.headers.get("authorization") != self.login:
            return Reply(status=401, headers={"WWW-Authenticate": 'Basic realm="index"'})
        if path.startswith("/files/"):
            data = self.files.get(path.removeprefix("/files/"))
            return Reply(status=404) if data is None else Reply(body=data)
        if not path.startswith("/simple/"):
            return Reply(status=404)
        project = path.strip("/").rpartition("/")[2]
        found = {
            n: d for n, d in self.files.items() if n.split("-")[0].replace("_", "-") == project
        }
        if not found:
            return Reply(status=404)
        if self.has_json and "json" in request.headers.get("accept", ""):
            return self._json(project, found)
        return self._html(found)

    def _json(self, project: str, found: Mapping[str, bytes]) -> Reply:
        files = [
            {
                "filename": name,
                "url": f"../../files/{name}",
                "hashes": {"sha256": sha256(data)} if self.has_hashes else {},
            }
            for name, data in found.items()
        ]
        document = {"meta": {"api-version": "1.0"}, "name": project, "files": files}
        kind = {"Content-Type": "application/vnd.pypi.simple.v1+json"}
        return Reply(headers=kind, body=json.dumps(document).encode())

    def _html(self, found: Mapping[str, bytes]) -> Reply:
        links = (
            f'<a href="../../files/{name}{"#sha256=" + sha256(data) if self.has_hashes else ""}">'
            f"{name}</a><br/>"
            for name, data in found.items()
        )
        page = f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>"
        return Reply(headers={"Content-Type": "text/html"}, body=page.encode())
