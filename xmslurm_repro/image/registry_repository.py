"""One repository of a registry: the requests of the OCI distribution protocol.

The protocol is github.com/opencontainers/distribution-spec, version 1.1; section numbers below
are its "end-NN" table.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import BinaryIO
from urllib.parse import quote, urlencode, urljoin

from xmslurm_repro.errors import FormatError, ReproError
from xmslurm_repro.image.platforms import DOCKER_LIST, DOCKER_MANIFEST
from xmslurm_repro.image.registry_reference import Reference
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.image import MEDIA_TYPE_INDEX, MEDIA_TYPE_MANIFEST
from xmslurm_repro.model.reader import Reader
from xmslurm_repro.transport.http import Http
from xmslurm_repro.transport.http_messages import Answer, Authorizer, HttpError, origin_of

_ACCEPT = f"{MEDIA_TYPE_MANIFEST}, {MEDIA_TYPE_INDEX}, {DOCKER_MANIFEST}, {DOCKER_LIST}"
_UPLOAD_ATTEMPTS = 3
_MANIFEST_ATTEMPTS = 4
_STATUSES = {
    401: "it wants a login, or refused ours",
    403: "we may not",
    404: "there is no such thing",
    429: "it is asked too often",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """
    A repository that we talk to.

    Attributes:
        http: The door.
        base_url: Scheme and host, such as ``https://registry.example``.
        reference: The image that it is about, for messages.
        auth: Says who we are.
        trouble: What is raised when it does not work.
    """

    http: Http
    base_url: str
    reference: Reference
    auth: Authorizer
    trouble: type[ReproError]

    def manifest(self, target: str) -> tuple[bytes, str]:
        """The exact bytes of an image manifest or index (end-3), and its media type."""
        answer = self._ask("GET", f"manifests/{target}", headers={"Accept": _ACCEPT})
        if answer.status != 200:
            raise self.refusal(answer, f"cannot read {self.reference}")
        kind = (answer.header("content-type") or "").partition(";")[0].strip()
        return answer.body, kind

    def find_manifest(self, target: str) -> Digest | None:
        """The digest that *target* names now, as the registry says; ``None`` if nothing or mute."""
        answer = self._ask("HEAD", f"manifests/{target}", headers={"Accept": _ACCEPT})
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise self.refusal(answer, f"cannot read {self.reference}")
        try:
            return Digest.parse(answer.header("docker-content-digest") or "")
        except ValueError:
            return None  # the header is only recommended

    def has_blob(self, digest: Digest) -> bool:
        """Whether the repository has a blob (end-2)."""
        answer = self._ask("HEAD", f"blobs/{digest}")
        if answer.status not in {200, 404}:
            raise self.refusal(answer, f"cannot ask for a blob of {self.reference}")
        return answer.status == 200

    def download_blob(self, digest: Digest, write: Callable[[bytes], object]) -> None:
        """Pass a blob's bytes to *write*, going on where they break off. Not verified."""
        try:
            self.http.download(self._url(f"blobs/{digest}"), write, auth=self.auth)
        except HttpError as error:
            raise self.failure(error, f"cannot read a layer of {self.reference}") from error

    def begin_upload(self, digest: Digest, mount_from: str | None) -> str | None:
        """
        Ask for a blob of another repository to be mounted (end-11), or begin an upload (end-4a).

        Returns:
            Where to upload to; ``None`` when it was mounted.
        """
        mount = {"mount": str(digest), "from": mount_from} if mount_from else {}
        query = f"?{urlencode(mount)}" if mount else ""
        answer = self._ask(
            "POST", f"blobs/uploads/{query}", headers={"Content-Length": "0"}, retry=True
        )
        if answer.status == 201 and mount_from:
            return None
        location = answer.header("location")
        if answer.status != 202 or not location:
            raise self.refusal(answer, f"cannot write to {self.reference}")
        return urljoin(answer.url, location)

    def upload_blob(
        self, digest: Digest, size_bytes: int, open_body: Callable[[], BinaryIO], location: str
    ) -> None:
        """Send a blob in one piece (end-6). After a failure a new upload is begun."""
        for attempt in range(1, _UPLOAD_ATTEMPTS + 1):
            url = self.closing_url(location, digest)
            headers = {
                "Content-Type": "application/octet-stream",
                "Content-Length": str(size_bytes),
            }
            try:
                with open_body() as body:
                    answer = self.send_upload("PUT", url, headers=headers, body=body)
            except HttpError as error:
                if attempt == _UPLOAD_ATTEMPTS:
                    raise self.failure(error, f"cannot write to {self.reference}") from error
            else:
                if answer.status == 201:
                    return
                if answer.status not in {404, 416, 429} and answer.status < 500:
                    raise self.refusal(answer, f"cannot write {digest} to {self.reference}")
                if attempt == _UPLOAD_ATTEMPTS:
                    raise self.refusal(answer, f"cannot write to {self.reference}")
            location = self.begin_upload(digest, None) or location

    def send_upload(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: BinaryIO | None = None,
    ) -> Answer:
        """
        Send a part of an upload, or its end, once.

        Raises:
            HttpError: If no answer comes.
        """
        # A place elsewhere is signed; what we show to the registry is not for it to see.
        auth = self.auth if origin_of(url) == origin_of(self.base_url) else None
        return self.http.request(method, url, headers=headers, body=body, auth=auth, retry=False)

    def ask_upload(self, location: str) -> Answer | None:
        """How much of an upload has arrived (end-13); ``None`` if no answer comes."""
        auth = self.auth if origin_of(location) == origin_of(self.base_url) else None
        try:
            return self.http.request("GET", location, auth=auth)
        except HttpError:
            return None

    def upload_target(self, answer: Answer, before: str) -> str:
        """Where the next part goes to; *before* where the registry says nothing new."""
        location = answer.header("location")
        return urljoin(answer.url, location) if location else before

    def closing_url(self, location: str, digest: Digest) -> str:
        """Where an upload is ended."""
        joint = "&" if "?" in location else "?"
        return f"{location}{joint}{urlencode({'digest': str(digest)})}"

    def put_manifest(self, target: str, data: bytes, media_type: str) -> None:
        """Write an image manifest, byte for byte, under a tag or its digest (end-7)."""
        for attempt in range(1, _MANIFEST_ATTEMPTS + 1):
            answer = self._ask(
                "PUT", f"manifests/{target}", headers={"Content-Type": media_type}, body=data
            )
            if attempt == _MANIFEST_ATTEMPTS or not _overlooks_a_blob(answer):
                break
            self.http.wait_as_told(answer, attempt)
        if answer.status not in {200, 201}:
            raise self.refusal(answer, f"cannot write {self.reference}")
        said = answer.header("docker-content-digest")
        want = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if said is not None and said != want:
            raise self.trouble(
                f"the registry {self.reference.registry} changed the image manifest of "
                f"{self.reference}: sent {want}, kept {said}",
                hint="Use a registry that keeps OCI image manifests as they are.",
            )

    def failure(self, error: HttpError, what: str) -> ReproError:
        """The error for an answer that did not come."""
        return self.trouble(
            f"{what}: {error.reason}", hint=_hint_for(error), details=(f"asked: {error.url}",)
        )

    def refusal(self, answer: Answer, what: str) -> ReproError:
        """The error for a registry that said no."""
        said = _said(answer)
        reason = said[0] if said else _STATUSES.get(answer.status, "the registry refused")
        return self.trouble(
            f"{what}: {reason}",
            hint=self._hint(answer.status),
            details=(f"status: {answer.status}", *said[1:]),
        )

    def _hint(self, status: int) -> str | None:
        if status in {401, 403}:
            return (
                f"Log in by `podman login {self.reference.registry}` or `docker login`, and check "
                "that you may use that repository."
            )
        if status == 404:
            return "Check the name and the tag."
        if status == 429:
            return "The registry limits how often it may be asked; log in, or wait."
        return None

    def _ask(
        self,
        method: str,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
        retry: bool | None = None,
    ) -> Answer:
        try:
            return self.http.request(
                method, self._url(path), headers=headers, body=body, auth=self.auth, retry=retry
            )
        except HttpError as error:
            raise self.failure(error, f"cannot reach {self.reference}") from error

    def _url(self, path: str) -> str:
        return f"{self.base_url}/v2/{quote(self.reference.repository)}/{path}"


def _overlooks_a_blob(answer: Answer) -> bool:
    """
    Whether the registry says that a blob is missing which we know to be there.

    docker-registry 2.8 on a file system writes the link to a blob in place: while somebody else
    uploads the same blob, it can find the link empty, and answers ``MANIFEST_BLOB_UNKNOWN``, or
    ``DIGEST_INVALID`` as what it found there is no digest.
    """
    said = _said(answer)
    return answer.status == 400 and any(
        code in line for line in said for code in ("BLOB_UNKNOWN", "DIGEST_INVALID")
    )


def _said(answer: Answer) -> tuple[str, ...]:
    """The registry's own words: code and message of each error (section "Error Codes")."""
    try:
        errors = list(Reader.of_json(answer.body, "").field("errors").items())
        pairs = [(error.field("code").text(), error.maybe("message")) for error in errors]
        return tuple(f"{code}: {m.text()}" if m else code for code, m in pairs)
    except FormatError:
        return ()


def _hint_for(error: HttpError) -> str:
    if error.kind == "tls" and is_certificate_trouble(error):
        return (
            "If the registry's certificate is signed by your site, name the site's CA file in the "
            "configuration."
        )
    if error.kind == "tls":
        return (
            "If the registry speaks plain HTTP and you trust the network, list its host among the "
            "insecure registries in the configuration."
        )
    return "Check the host's name, the network and the proxy settings."


def is_certificate_trouble(error: HttpError) -> bool:
    """Whether there was TLS, and a certificate that we do not trust."""
    return error.kind == "tls" and "certificate" in error.reason.lower()
