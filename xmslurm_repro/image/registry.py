"""Images in registries: resolve a tag once, pull by digest, push what is missing.

Image manifests pass through here as bytes only; no registry and no library rewrites them.
"""

from __future__ import annotations

import hashlib
import ipaddress
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from xmslurm_repro.errors import (
    BaseUnreachableError,
    ImageError,
    RegistryError,
    ReproError,
)
from xmslurm_repro.image.cache import DocumentCache
from xmslurm_repro.image.credentials import CredentialSource
from xmslurm_repro.image.platforms import DEFAULT_ARCHITECTURE, choose_platform
from xmslurm_repro.image.registry_auth import RegistryAuthorizer
from xmslurm_repro.image.registry_chunks import Notes
from xmslurm_repro.image.registry_documents import (
    config_architecture,
    is_index,
    manifest_blobs,
    media_type,
)
from xmslurm_repro.image.registry_reference import DOCKER_HUB, Reference
from xmslurm_repro.image.registry_repository import Repository, is_certificate_trouble
from xmslurm_repro.image.registry_transfer import pull_blob, push_blob
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.image import Descriptor
from xmslurm_repro.model.reader import Reader
from xmslurm_repro.ports.progress import Progress, ProgressTask, SilentProgress
from xmslurm_repro.ports.store import BlobStore
from xmslurm_repro.transport.http import Http
from xmslurm_repro.transport.http_messages import HttpError
from xmslurm_repro.transport.http_parallel import for_each

_WORKERS = 6
_MAX_INDEX_DEPTH = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class PushReport:
    """
    What a push moved.

    Attributes:
        moved_bytes: Sent to the registry, without the image manifest.
        uploaded: Blobs that were sent.
        mounted: Blobs that the registry took from another repository of its own.
        present: Blobs that the repository had already.
    """

    moved_bytes: int
    uploaded: int
    mounted: int
    present: int


class RegistryClient:
    """
    A client of the OCI distribution protocol. Usable from several threads.

    TLS is always used and verified, but for loopback and *insecure_hosts*: these are asked by
    TLS first, and in the clear if they speak none.

    Args:
        http: The door.
        credentials: Asked when a registry wants to know who we are.
        insecure_hosts: Hosts, with or without port, that may be asked without TLS.
        notes_dir: Remembers uploads that were interrupted, so that another process goes on with
            them; ``None`` for this process only.
    """

    def __init__(
        self,
        http: Http,
        credentials: CredentialSource,
        *,
        insecure_hosts: Collection[str] = (),
        notes_dir: Path | None = None,
    ) -> None:
        self._http, self._credentials = http, credentials
        self._notes = Notes(documents=DocumentCache(notes_dir) if notes_dir else None)
        self._insecure_hosts = frozenset(host.lower() for host in insecure_hosts)
        self._schemes: dict[str, str] = {}
        self._lock = threading.Lock()

    def resolve(self, reference: Reference | str) -> Descriptor:
        """
        Ask once what a tag names: an image manifest, or an index of several.

        Raises:
            BaseUnreachableError: If it cannot be read.
            ImageError: If it is no image.
        """
        parsed = _parsed(reference)
        data, kind = _read_manifest(self._reading(parsed), parsed.target, parsed.digest)
        is_index(data, str(parsed))
        return _descriptor(data, kind)

    def pull(
        self,
        reference: Reference | str,
        blobs: BlobStore,
        *,
        architecture: str = DEFAULT_ARCHITECTURE,
        progress: Progress | None = None,
    ) -> Descriptor:
        """
        Bring an image into *blobs*, every byte verified; what is there is not moved again.

        Args:
            reference: The image; a tag is resolved once.
            blobs: Where it is kept.
            architecture: Which image to take from an index, as OCI says it.
            progress: Told of bytes.

        Returns:
            The image manifest (never an index), as the registry has it.

        Raises:
            BaseUnreachableError: If it cannot be read, or there is none for *architecture*.
            ImageError: If it is no image, or says that it is for another architecture.
        """
        parsed = _parsed(reference)
        place = self._reading(parsed)
        data, kind = _read_manifest(place, parsed.target, parsed.digest)
        for _ in range(_MAX_INDEX_DEPTH):
            if not is_index(data, str(parsed)):
                break
            index = Reader.of_json(data, str(parsed))
            chosen = choose_platform(index, architecture, str(parsed))
            data, kind = _read_manifest(place, str(chosen.digest), chosen.digest)
        config, layers = manifest_blobs(data, str(parsed))
        wanted = _without_repeats((config, *layers))
        missing = [blob for blob in wanted if not blobs.has(blob.digest)]
        total = sum(blob.size_bytes for blob in missing)
        task = (progress or SilentProgress()).start(f"pull {parsed}", total=total)
        try:
            for_each(partial(pull_blob, place, blobs, task), missing, workers=_WORKERS)
        finally:
            task.finish()
        offered = config_architecture(blobs.get(config.digest), str(parsed))
        if offered not in {None, architecture}:
            raise ImageError(
                f"the image {parsed} is for {offered}, not for {architecture}",
                hint="Choose a base image for the cluster's architecture.",
            )
        blobs.put(data)
        return _descriptor(data, kind)

    def push(
        self,
        image_manifest: Descriptor,
        blobs: BlobStore,
        repository: str,
        *,
        tag: str | None = None,
        mount_from: Sequence[str] = (),
        progress: Progress | None = None,
    ) -> PushReport:
        """
        Make *repository* hold the image under its digest; move only what it does not have.

        The image is also tagged ``xms-`` and 32 digits of its config's digest: registries delete
        what has no tag. Idempotent.

        Args:
            image_manifest: The image, all of it in *blobs*.
            blobs: Where it is.
            repository: Host and name, such as ``registry.example/group/images``.
            tag: One more tag.
            mount_from: Repositories of the same registry, with or without host, that are likely
                to hold its blobs.
            progress: Told of bytes.

        Raises:
            RegistryError: If the registry refuses or fails.
            DigestMismatchError: If a blob of ours is damaged.
        """
        data = blobs.get(image_manifest.digest)
        config, layers = manifest_blobs(data, f"image manifest {image_manifest.digest}")
        reference = _parsed(repository, RegistryError)
        reference = replace(reference, tag=None, digest=image_manifest.digest)
        sources = _mountable(mount_from, reference)
        place = self._writing(reference, sources)
        tags = (f"xms-{config.digest.hex[:32]}", *((tag,) if tag else ()))
        lacking = [name for name in tags if place.find_manifest(name) != image_manifest.digest]
        wanted = _without_repeats((config, *layers))
        if not lacking:
            return PushReport(moved_bytes=0, uploaded=0, mounted=0, present=len(wanted))
        there = self._there(place, blobs)
        task = (progress or SilentProgress()).start(
            f"push to {repository}", total=sum(blob.size_bytes for blob in wanted)
        )
        try:
            moved = self._push_blobs(place, blobs, sources, wanted, there, task)
            try:
                place.put_manifest(lacking[0], data, image_manifest.media_type)
            except RegistryError:
                if not there:
                    raise
                # It had less than an image of its own needs: look at each blob, and send again.
                moved = self._push_blobs(place, blobs, sources, wanted, frozenset(), task)
                place.put_manifest(lacking[0], data, image_manifest.media_type)
        finally:
            task.finish()
        for name in (*lacking[1:], str(image_manifest.digest)):
            place.put_manifest(name, data, image_manifest.media_type)
        self._notes.keep_pushed(place, image_manifest.digest)
        sizes = [blob.size_bytes for blob, how in zip(wanted, moved, strict=True) if how == "sent"]
        return PushReport(
            moved_bytes=sum(sizes),
            uploaded=moved.count("sent"),
            mounted=moved.count("mounted"),
            present=moved.count("present"),
        )

    def _there(self, place: Repository, blobs: BlobStore) -> frozenset[Digest]:
        """
        Blobs that need not be asked for, one by one: those of the image that was pushed last, if
        the registry still has that.
        """
        last = self._notes.find_pushed(place)
        if last is None or not blobs.has(last) or place.find_manifest(str(last)) != last:
            return frozenset()
        config, layers = manifest_blobs(blobs.get(last), f"image manifest {last}")
        return frozenset(blob.digest for blob in (config, *layers))

    def _push_blobs(
        self,
        place: Repository,
        blobs: BlobStore,
        sources: Sequence[str],
        wanted: Sequence[Descriptor],
        there: Collection[Digest],
        task: ProgressTask,
    ) -> list[str]:
        """Make the repository hold *wanted*; how, of each."""
        rest = [blob for blob in wanted if blob.digest not in there]
        task.advance(sum(blob.size_bytes for blob in wanted if blob.digest in there))
        job = partial(push_blob, place, blobs, sources, self._notes, task)
        moved = dict(zip(rest, for_each(job, rest, workers=_WORKERS), strict=True))
        return [moved.get(blob, "present") for blob in wanted]

    def _reading(self, reference: Reference) -> Repository:
        scopes = (f"repository:{reference.repository}:pull",)
        return self._open(reference, scopes, BaseUnreachableError)

    def _writing(self, reference: Reference, sources: Sequence[str]) -> Repository:
        scopes = [f"repository:{reference.repository}:pull,push"]
        scopes += [f"repository:{source}:pull" for source in sources]
        return self._open(reference, scopes, RegistryError)

    def _open(
        self, reference: Reference, scopes: Sequence[str], trouble: type[ReproError]
    ) -> Repository:
        scheme = self._scheme(reference, trouble)
        auth = RegistryAuthorizer(
            self._http,
            self._credentials,
            registry=reference.registry,
            repository=reference.repository,
            scopes=scopes,
            may_be_plain=scheme == "http",
        )
        return Repository(
            http=self._http,
            base_url=f"{scheme}://{reference.api_host}",
            reference=reference,
            auth=auth,
            trouble=trouble,
        )

    def _scheme(self, reference: Reference, trouble: type[ReproError]) -> str:
        """``https``; ``http`` only for a host that may be asked so and does not speak TLS."""
        host = reference.api_host
        if not self._may_be_plain(host):
            return "https"
        with self._lock:
            if host not in self._schemes:
                self._schemes[host] = self._probe(host, trouble)
            return self._schemes[host]

    def _probe(self, host: str, trouble: type[ReproError]) -> str:
        try:
            self._http.request("GET", f"https://{host}/v2/", retry=False)
        except HttpError as error:
            if is_certificate_trouble(error):
                raise trouble(
                    f"the registry {host} has a certificate that is not trusted: {error.reason}",
                    hint="Name the CA file of your site in the configuration.",
                ) from error
            if error.kind in {"tls", "broken"}:
                return "http"
            raise trouble(
                f"cannot reach the registry {host}: {error.reason}",
                hint="Check that it runs, and the host's name and port.",
            ) from error
        return "https"

    def _may_be_plain(self, host: str) -> bool:
        name = host.lower()
        bare = name.rpartition(":")[0] if name.rpartition(":")[2].isdigit() else name
        return bool({name, bare} & self._insecure_hosts) or _is_loopback(bare.strip("[]"))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _parsed(
    reference: Reference | str, trouble: type[ReproError] = BaseUnreachableError
) -> Reference:
    if isinstance(reference, Reference):
        return reference
    try:
        return Reference.parse(reference)
    except ValueError as error:
        raise trouble(
            f"{reference!r} names no image in a registry: {error}",
            hint="Write it as `registry.example/group/name:tag` or `…@sha256:…`.",
        ) from error


def _read_manifest(place: Repository, target: str, want: Digest | None) -> tuple[bytes, str]:
    data, kind = place.manifest(target)
    got = _sha256(data)
    if want is not None and got != want:
        raise place.trouble(
            f"the registry served another image manifest of {place.reference}: "
            f"expected {want}, got {got}",
            hint="Do not use it. Ask who runs the registry, or the proxy before it.",
        )
    return data, media_type(data, kind, str(place.reference))


def _descriptor(data: bytes, kind: str) -> Descriptor:
    return Descriptor(media_type=kind, digest=_sha256(data), size_bytes=len(data))


def _sha256(data: bytes) -> Digest:
    return Digest.sha256(hashlib.sha256(data).hexdigest())


def _without_repeats(blobs: Sequence[Descriptor]) -> tuple[Descriptor, ...]:
    return tuple({blob.digest: blob for blob in blobs}.values())


def _mountable(mount_from: Sequence[str], reference: Reference) -> tuple[str, ...]:
    """The names, without host, of those repositories that lie in the same registry."""
    found = []
    for text in mount_from:
        try:
            named = Reference.parse(text)
            if named.registry == DOCKER_HUB and not text.startswith(f"{DOCKER_HUB}/"):
                named = Reference.parse(f"{reference.registry}/{text}")
        except ValueError:
            continue  # the name of a base from somewhere else: nothing to mount from
        if named.registry == reference.registry and named.repository != reference.repository:
            found.append(named.repository)
    return tuple(dict.fromkeys(found))
