"""Verify: is every byte that is kept what its name says, and who needs what is not?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from xmslurm_repro.errors import IntegrityError, StoreError
from xmslurm_repro.model.canonical import Json
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.services.lookup import Selection
from xmslurm_repro.services.needs import Needs, needs_of, with_record
from xmslurm_repro.services.tools import Tools

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """
    Something damaged or missing.

    Attributes:
        digest: Of what; ``None`` for a whole pack.
        what: What it is, for people.
        problem: What is wrong with it.
        experiments: Who needs it.
    """

    digest: Digest | None
    what: str
    problem: str
    experiments: tuple[int, ...]

    def to_json(self) -> dict[str, Json]:
        """Write it as JSON."""
        return {
            "digest": str(self.digest) if self.digest else None,
            "what": self.what,
            "problem": self.problem,
            "experiments": list(self.experiments),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """
    What `verify` found.

    Attributes:
        findings: All that is damaged or missing.
        objects: How many were looked at.
        blobs: Likewise.
        kept_again: How many experiments the record had to keep as objects again.
    """

    findings: tuple[Finding, ...]
    objects: int
    blobs: int
    kept_again: int = 0


def verify(tools: Tools, selection: Selection | None) -> Verified:
    """
    Read again all that is kept, or all that one experiment needs.

    Args:
        tools: The world.
        selection: The experiment; ``None`` for everything in the stores, needed or not.
    """
    with tools.guard.using():
        rows = [selection.row] if selection else list(tools.record.experiments())
        needs = needs_of(tools, rows)
        if selection is not None:
            own = {digest for digest, who in needs.blobs.items() if who}
            findings = list(_needed_findings(tools, needs, own))
            return Verified(findings=tuple(findings), objects=len(needs.objects), blobs=len(own))
        return _verify_all(tools, with_record(needs, tools.record.pieces()))


def _verify_all(tools: Tools, needs: Needs) -> Verified:
    if tools.upkeep is None:
        raise StoreError("these stores cannot be read as a whole")
    findings = [
        Finding(
            digest=damage.digest,
            what=_label(needs, damage.digest, damage.place),
            problem=damage.error.message,
            experiments=tuple(needs.of(damage.digest)) if damage.digest else (),
        )
        for damage in tools.upkeep.damage()
    ]
    objects, blobs = set(tools.store.digests()), set(tools.blobs.digests())
    findings += [
        Finding(digest=None, what=trouble.what, problem=trouble.error.message, experiments=())
        for trouble in needs.troubles
        if trouble.experiment_id is None
    ]
    disagreements = tools.record.disagreements()
    findings += [
        Finding(digest=None, what="the record", problem=problem, experiments=who)
        for who, problem in disagreements
    ]
    # Pieces are not synced at once, so a loss of power may take some; they are kept again below.
    pieces = set() if disagreements else set(tools.record.pieces())
    missing = [*(needs.objects.keys() - objects - pieces), *(needs.blobs.keys() - blobs)]
    findings += [_missing(needs, digest) for digest in sorted(missing)]
    return Verified(
        findings=tuple(findings),
        objects=len(objects),
        blobs=len(blobs),
        # Not over what may be the better half.
        kept_again=0 if disagreements else tools.record.keep_again(),
    )


def _needed_findings(tools: Tools, needs: Needs, blobs: set[Digest]) -> Iterator[Finding]:
    for digest in needs.objects:
        problem = _object_problem(tools, digest)
        if problem is not None:
            yield _finding(needs, digest, problem)
    for digest in sorted(blobs):
        problem = _blob_problem(tools, digest)
        if problem is not None:
            yield _finding(needs, digest, problem)


def _blob_problem(tools: Tools, digest: Digest) -> str | None:
    hasher = hashlib.sha256()
    try:
        with tools.blobs.open(digest) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                hasher.update(chunk)
    except (IntegrityError, StoreError) as error:
        return error.message
    except OSError as error:
        return f"it cannot be read: {error.strerror or error}"
    got = hasher.hexdigest()
    return None if got == digest.hex else f"{digest} is damaged: its bytes hash to sha256:{got}"


def _object_problem(tools: Tools, digest: Digest) -> str | None:
    try:
        with tools.store.open(digest) as stream:
            while stream.read(_CHUNK_BYTES):
                pass
    except (IntegrityError, StoreError) as error:
        return error.message
    return None


def _finding(needs: Needs, digest: Digest, problem: str) -> Finding:
    return Finding(
        digest=digest,
        what=_label(needs, digest, str(digest)),
        problem=problem,
        experiments=tuple(needs.of(digest)),
    )


def _missing(needs: Needs, digest: Digest) -> Finding:
    return _finding(needs, digest, f"{digest} is missing")


def _label(needs: Needs, digest: Digest | None, otherwise: str) -> str:
    return needs.labels.get(digest, otherwise) if digest else otherwise
