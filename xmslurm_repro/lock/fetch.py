"""Bringing wheels into the blob store, each checked against the lock's SHA-256."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from xmslurm_repro.errors import DigestMismatchError, FetchError, FormatError, IntegrityError
from xmslurm_repro.lock.index import list_files
from xmslurm_repro.lock.logins import Logins, without_login
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.lock import Artifact
from xmslurm_repro.ports.progress import Progress, ProgressTask, SilentProgress
from xmslurm_repro.ports.store import BlobStore, ObjectStore
from xmslurm_repro.transport.http import Http
from xmslurm_repro.transport.http_messages import HttpError, public_url
from xmslurm_repro.transport.http_parallel import for_each

_WORKERS = 8
_CHUNK_BYTES = 1 << 20


def fetch_artifacts(  # noqa: PLR0913 (places to look in)
    artifacts: Sequence[Artifact],
    *,
    blobs: BlobStore,
    http: Http,
    store: ObjectStore | None = None,
    index_urls: Sequence[str] = (),
    wheelhouses: Sequence[Path] = (),
    locate: Callable[[Artifact], str | None] | None = None,
    logins: Logins | None = None,
    progress: Progress | None = None,
) -> None:
    """
    Make sure that *blobs* holds every wheel and conda package.

    What is there is not fetched. Else it is looked for, in this order: in *wheelhouses* by its
    file name, in the snapshot that named it, at the lock's URL, on *index_urls* by its hash, and
    where *locate* says.
    Every source is checked by SHA-256, so their order decides no bytes.

    Args:
        artifacts: The wheels.
        blobs: Where they are kept.
        http: The door to the network.
        store: Holds wheels that are part of a snapshot (``url`` is ``blake3:<hex>``).
        index_urls: Roots of simple APIs, which may hold a user and a password; these are sent to
            that host also for the lock's own URLs.
        wheelhouses: Folders of wheels.
        locate: Finds a URL when nothing else helped, or raises `FetchError`.
        logins: Who is asking; else what stands in *index_urls*.
        progress: Told of bytes.

    Raises:
        FetchError: With every wheel that could not be had, and why.
    """
    missing = {
        artifact.sha256: artifact for artifact in artifacts if not blobs.has(artifact.sha256)
    }
    if not missing:
        return
    sizes = [artifact.size_bytes for artifact in missing.values()]
    total = sum(size for size in sizes if size) if all(sizes) else None
    task = (progress or SilentProgress()).start("fetch packages", total=total)
    sources = _Sources(
        http=http,
        store=store,
        index_urls=tuple(index_urls),
        wheelhouses=tuple(wheelhouses),
        locate=locate,
        logins=logins or Logins(index_urls),
    )
    try:
        one = partial(_fetch_one, sources=sources, blobs=blobs, task=task)
        tried = for_each(one, list(missing.values()), workers=_WORKERS)
    finally:
        task.finish()
    failures = [failure for failure in tried if failure]
    if failures:
        count = f"{len(failures)} package{'s' if len(failures) > 1 else ''}"
        raise FetchError(
            f"cannot fetch {count}: {', '.join(sorted(name for name, _ in failures))}",
            hint="Check the network, or name a mirror of the package index or a folder of wheels "
            "in the configuration; what was fetched is kept.",
            details=[line for _, lines in sorted(failures) for line in lines],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sources:
    """Where wheels may come from."""

    http: Http
    store: ObjectStore | None
    index_urls: tuple[str, ...]
    wheelhouses: tuple[Path, ...]
    locate: Callable[[Artifact], str | None] | None
    logins: Logins

    def of(self, artifact: Artifact) -> Iterator[tuple[str, Callable[[_Write], object]]]:
        """A name for people, and a function that passes the bytes on, of each source in turn."""
        for folder in self.wheelhouses:
            path = folder / artifact.filename
            if path.is_file():
                yield str(path), partial(_copy, partial(_open_file, path))
        inside = _object_digest(artifact.url)
        if inside is not None and self.store is not None:
            yield "the snapshot", partial(_copy, partial(self.store.open, inside))
        elif artifact.url is not None and artifact.url.startswith("file://"):
            path = Path(unquote(urlsplit(artifact.url).path))
            yield str(path), partial(_copy, partial(_open_file, path))
        elif artifact.url is not None and inside is None:
            yield public_url(artifact.url), partial(self._download, artifact.url)
        if artifact.is_conda or artifact.is_deb or artifact.built is not None:
            return  # an index of PyPI's kind has none
        for index in self.index_urls:
            yield public_url(index), partial(self._download_from_index, index, artifact)
        if self.locate is not None:
            yield "the index of uv", partial(self._download_located, self.locate, artifact)

    def _download_from_index(self, index: str, artifact: Artifact, write: _Write) -> None:
        login = self.logins.of(index)
        files = list_files(self.http, without_login(index), artifact.name, auth=login)
        exact = [file.url for file in files if file.sha256 == artifact.sha256]
        likely = [f.url for f in files if f.sha256 is None and f.filename == artifact.filename]
        if not exact + likely:
            raise _NotOfferedError(f"has no {artifact.filename} with that hash")
        self._download((exact + likely)[0], write)

    def _download_located(
        self, locate: Callable[[Artifact], str | None], artifact: Artifact, write: _Write
    ) -> None:
        url = locate(artifact)
        if url is None:
            raise _NotOfferedError(f"has no {artifact.filename} with that hash")
        self._download(url, write)

    def _download(self, url: str, write: _Write) -> None:
        self.http.download(without_login(url), write, auth=self.logins.of(url))


class _NotOfferedError(Exception):
    """An index does not have a file."""


_Write = Callable[[bytes], object]


def _fetch_one(
    artifact: Artifact,
    check: Callable[[], None],
    *,
    sources: _Sources,
    blobs: BlobStore,
    task: ProgressTask,
) -> tuple[str, list[str]] | None:
    """Try each source; return the name and what went wrong, or ``None`` when it is there."""
    wrong: list[str] = []
    for label, read in sources.of(artifact):
        try:
            with blobs.writer() as writer:
                read(_counted(writer.write, task, check))
                writer.commit(expected=artifact.sha256)
            return None
        except DigestMismatchError as error:
            wrong.append(f"{label}: expected {error.want}, got {error.got}")
        except (HttpError, FormatError) as error:
            wrong.append(str(error))
        except (FetchError, IntegrityError, OSError, _NotOfferedError) as error:
            wrong.append(f"{label}: {error}")
    if artifact.built is not None:
        wrong.append(
            f"it was built here of {artifact.built.filename}, and nobody else offers it: bring it "
            "back from another store or a backup"
        )
    wrong = wrong or ["the lock names no URL, and no index is configured"]
    return artifact.name, [f"{artifact.filename}: {reason}" for reason in wrong]


def _counted(
    write: Callable[[bytes], int], task: ProgressTask, check: Callable[[], None]
) -> _Write:
    def count(data: bytes) -> None:
        check()
        write(data)
        task.advance(len(data))

    return count


def _copy(opener: Callable[[], BinaryIO], write: _Write) -> None:
    with opener() as file:
        while data := file.read(_CHUNK_BYTES):
            write(data)


def _open_file(path: Path) -> BinaryIO:
    return path.open("rb")


def _object_digest(url: str | None) -> Digest | None:
    """The object that an artifact's ``url`` names, if it is one of the snapshot."""
    if url is None or not url.startswith("blake3:"):
        return None
    return Digest.parse(url)
