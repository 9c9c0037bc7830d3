"""Uploads that go on where they broke off: in this push, or in the next one after we were killed.

A large blob is sent in chunks (end-5). After a failure the registry is asked how much it has
(end-13). One that is a Distribution (docker-registry) forgets the upload when a chunk is cut
before its own eyes (``upload resumed at wrong offset``); behind a proxy that takes requests in
whole, as nginx does, it knows of whole chunks only, and goes on. Registries that take no chunks
get the blob in one piece.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from xmslurm_repro.errors import FormatError
from xmslurm_repro.image.cache import DocumentCache
from xmslurm_repro.image.registry_repository import Repository
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.transport.http_messages import Answer, HttpError

CHUNKED_FROM_BYTES = 4 << 20
"""Smaller blobs are sent in one piece (end-6): that is one request less."""

CHUNK_BYTES = 32 << 20
"""More than the least that registries take (ECR: 5 MiB), and not much to send again."""

_ATTEMPTS = 5
_NO_CHUNKS = (400, 405, 411, 413, 415, 501)
_KIND, _PUSHED = "uploads", "pushed"


class NoChunksError(Exception):
    """The registry takes no chunks."""


class OpenRange(Protocol):
    """Opens the blob from one position to another."""

    def __call__(self, begin: int, end: int) -> BinaryIO:
        """A stream of those bytes."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """What was pushed last, and which uploads did not end, in a folder; ``None``: no notes."""

    documents: DocumentCache | None

    def find(self, place: Repository, digest: Digest) -> str | None:
        """Where the upload of a blob was going to."""
        known = self.documents.get(_KIND, _key(place, digest)) if self.documents else None
        try:
            return known.field("location").text() if known else None
        except FormatError:
            return None

    def keep(self, place: Repository, digest: Digest, location: str) -> None:
        """Remember where it goes to."""
        if self.documents:
            self.documents.put(_KIND, _key(place, digest), {"location": location})

    def find_pushed(self, place: Repository) -> Digest | None:
        """The image manifest that was pushed there last."""
        known = self.documents.get(_PUSHED, _key(place, "last")) if self.documents else None
        try:
            return known.field("manifest").digest() if known else None
        except FormatError:
            return None

    def keep_pushed(self, place: Repository, manifest: Digest) -> None:
        """Remember that this image manifest, and all that it names, is there."""
        if self.documents:
            self.documents.put(_PUSHED, _key(place, "last"), {"manifest": str(manifest)})

    def drop(self, place: Repository, digest: Digest) -> None:
        """Forget it: it has ended."""
        if self.documents:
            self.documents.remove(_KIND, _key(place, digest))


def upload_in_chunks(
    place: Repository,
    digest: Digest,
    size_bytes: int,
    open_range: OpenRange,
    begin_upload: Callable[[], str],
    notes: Notes,
) -> None:
    """
    Send a blob; afterwards *place* holds it.

    Args:
        place: The repository.
        digest: The blob's.
        size_bytes: Its size.
        open_range: Opens a part of it.
        begin_upload: Begins an upload; called when there is none that can be gone on with.
        notes: Of uploads that were interrupted.

    Raises:
        NoChunksError: If it takes no chunks, or none of our size.
        ReproError: *place*'s, if it refuses, or makes no progress in several attempts.
    """
    upload = _Upload(place=place, digest=digest, size_bytes=size_bytes, notes=notes)
    upload.resume(notes.find(place, digest))
    failures = 0
    while True:
        if upload.location is None:
            upload.begin(begin_upload())
        before = upload.position
        trouble = upload.send(open_range) or upload.finish()
        if trouble is None:
            notes.drop(place, digest)
            return
        upload.resume(upload.location)
        failures = 1 if upload.position > before else failures + 1
        if failures >= _ATTEMPTS:
            raise upload.error(trouble)
        if isinstance(trouble, Answer):
            place.http.wait_as_told(trouble, failures)


@dataclass(slots=True, kw_only=True)
class _Upload:
    place: Repository
    digest: Digest
    size_bytes: int
    notes: Notes
    location: str | None = None
    position: int = 0

    def begin(self, location: str) -> None:
        self.location, self.position = location, 0
        self.notes.keep(self.place, self.digest, location)

    def resume(self, location: str | None) -> None:
        """Ask how much has arrived; where nobody knows, there is nothing to go on with."""
        self.location, self.position = None, 0
        if location is None:
            return
        answer = self.place.ask_upload(location)
        if answer is None or answer.status != 204:
            self.notes.drop(self.place, self.digest)
            return
        arrived = _arrived(answer.header("range"))
        if arrived <= self.size_bytes:
            self.location = self.place.upload_target(answer, location)
            self.position = arrived

    def send(self, open_range: OpenRange) -> Answer | HttpError | None:
        """Send what is left; what went wrong, if anything did."""
        while self.position < self.size_bytes:
            assert self.location is not None  # noqa: S101 (begun, or gone on with)
            end = min(self.size_bytes, self.position + CHUNK_BYTES)
            headers = {
                "Content-Type": "application/octet-stream",
                "Content-Length": str(end - self.position),
                "Content-Range": f"{self.position}-{end - 1}",
            }
            try:
                with open_range(self.position, end) as body:
                    answer = self.place.send_upload(
                        "PATCH", self.location, headers=headers, body=body
                    )
            except HttpError as error:
                return error
            if answer.status not in {201, 202, 204}:
                if answer.status in _NO_CHUNKS:
                    self.notes.drop(self.place, self.digest)
                    raise NoChunksError
                self._refuse_for_good(answer)
                return answer
            self.location = self.place.upload_target(answer, self.location)
            self.position = end
            self.notes.keep(self.place, self.digest, self.location)
        return None

    def finish(self) -> Answer | HttpError | None:
        assert self.location is not None  # noqa: S101 (as above)
        target = self.place.closing_url(self.location, self.digest)
        try:
            answer = self.place.send_upload("PUT", target, headers={"Content-Length": "0"})
        except HttpError as error:
            return error
        if answer.status in {201, 204}:
            return None
        # Whatever was wrong with it, this upload is spent.
        self.notes.drop(self.place, self.digest)
        self._refuse_for_good(answer)
        self.location = None
        return answer

    def _refuse_for_good(self, answer: Answer) -> None:
        if answer.status not in {404, 408, 416, 429} and answer.status < 500:
            self.notes.drop(self.place, self.digest)
            raise self.error(answer)

    def error(self, trouble: Answer | HttpError) -> Exception:
        what = f"cannot write {self.digest} to {self.place.reference}"
        if isinstance(trouble, Answer):
            return self.place.refusal(trouble, what)
        return self.place.failure(trouble, what)


def _arrived(span: str | None) -> int:
    """
    How many bytes ``Range: 0-<last>`` tells of.

    docker-registry says ``0-0`` both of nothing and of one byte; nothing is then the safe answer.
    """
    match = re.fullmatch(r"(?:bytes=)?0-(\d+)", span or "")
    return int(match[1]) + 1 if match and int(match[1]) else 0


def _key(place: Repository, what: Digest | str) -> str:
    named = f"{place.base_url} {place.reference.repository} {what}"
    return hashlib.sha256(named.encode()).hexdigest()
