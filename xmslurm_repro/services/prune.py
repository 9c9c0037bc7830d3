"""Prune: what no experiment needs, shown first, then removed."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from xmslurm_repro.errors import IntegrityError, StoreError
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.ports.upkeep import Upkeep, Waste
from xmslurm_repro.services.needs import Needs, needs_of, with_record
from xmslurm_repro.services.tools import Tools

GRACE_SECONDS = 3600
"""What was written since may belong to a launch on a file system that knows no locks."""

_PATIENCE_SECONDS = 30
_PAUSE_SECONDS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What was removed, and how many bytes that freed."""

    waste: Waste
    freed_bytes: int


def find_waste(tools: Tools, *, grace_seconds: int = GRACE_SECONDS) -> Waste:
    """
    What no experiment and no named base image needs. Removes nothing.

    Raises:
        IntegrityError: If it cannot be told what an experiment needs.
    """
    with tools.guard.using():
        return _waste(_upkeep(tools), _certain_needs(tools), grace_seconds)


async def prune(tools: Tools, *, grace_seconds: int = GRACE_SECONDS) -> Pruned:
    """
    Remove what nobody needs. Waits a while for launches that have not been recorded yet; those
    that begin meanwhile wait.

    Raises:
        IntegrityError: If it cannot be told what an experiment needs; nothing is removed.
        StoreError: If launches went on for too long; nothing is removed.
    """
    upkeep, waited = _upkeep(tools), 0.0
    with tools.guard.alone() as is_alone:
        if is_alone:
            return _prune_alone(tools, upkeep, grace_seconds)
    while waited < _PATIENCE_SECONDS:
        await tools.clock.sleep(_PAUSE_SECONDS)
        waited += _PAUSE_SECONDS
        with tools.guard.alone() as is_alone:
            if is_alone:
                return _prune_alone(tools, upkeep, grace_seconds)
    raise StoreError(
        "the store is in use by a launch or a replay, so nothing was removed",
        hint="Run it again when that is over.",
    )


def _prune_alone(tools: Tools, upkeep: Upkeep, grace_seconds: int) -> Pruned:
    # Only now is it certain that nothing is being added.
    needs = _certain_needs(tools)
    waste = _waste(upkeep, needs, grace_seconds)
    return Pruned(waste=waste, freed_bytes=upkeep.remove(waste, _objects(needs)))


def _certain_needs(tools: Tools) -> Needs:
    needs = needs_of(tools, list(tools.record.experiments()))
    with_record(needs, tools.record.pieces())
    if needs.troubles:
        raise IntegrityError(
            "it cannot be told what all experiments need, so nothing can be removed",
            details=[
                f"{f'experiment {trouble.experiment_id}: ' if trouble.experiment_id else ''}"
                f"{trouble.what}: {trouble.error.message}"
                for trouble in needs.troubles[:20]
            ],
            hint="Run `xmslurm-repro verify`, and bring back what is missing.",
        )
    return needs


def _waste(upkeep: Upkeep, needs: Needs, grace_seconds: int) -> Waste:
    return upkeep.waste(
        _objects(needs),
        needs.blobs.keys(),
        kept_refs=frozenset(),
        older_than_seconds=grace_seconds,
    )


def _objects(needs: Needs) -> Set[Digest]:
    return needs.objects.keys()


def _upkeep(tools: Tools) -> Upkeep:
    if tools.upkeep is None:
        raise StoreError("these stores cannot be cleared up")
    return tools.upkeep
