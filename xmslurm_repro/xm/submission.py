"""From jobs of a launch script to one submission: a job, or an array."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from absl import logging
from xmanager import xm

from xmslurm_repro.errors import ReproError
from xmslurm_repro.model.canonical import canonical_json
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.run import Receipt
from xmslurm_repro.model.work import WorkUnit
from xmslurm_repro.services.launch import add_units
from xmslurm_repro.services.lookup import read_manifest
from xmslurm_repro.services.prepare import Prepared
from xmslurm_repro.services.submit import Batch, PlannedRun, settle, submit
from xmslurm_repro.services.tools import Tools
from xmslurm_repro.xm.access import row_of
from xmslurm_repro.xm.asking import Asked, ask, check_array
from xmslurm_repro.xm.faults import ArgumentError
from xmslurm_repro.xm.prerequisites import Waiting, plan_waiting

if TYPE_CHECKING:
    from xmslurm_repro.xm.experiment import SlurmExperiment
    from xmslurm_repro.xm.units import SlurmWorkUnit

IDENTITY = "identity"
"""The note that holds a unit's identity."""


class Submitter:
    """Submits the jobs of one experiment's units, one submission after the other."""

    def __init__(self, experiment: SlurmExperiment) -> None:
        """Submit for *experiment*."""
        self._experiment = experiment
        # Made when first needed: it belongs to the event loop that is running then.
        self._lock: asyncio.Lock | None = None
        self._is_settled = False

    async def submit(self, pairs: Sequence[tuple[SlurmWorkUnit, xm.Job]]) -> None:
        """
        Submit jobs of units at once; units that have a run already are left alone.

        Raises:
            ReproError: As `services.submit.submit`.
        """
        access = self._experiment.access
        tools = access.demand()
        self._lock = self._lock or asyncio.Lock()
        asked = [(unit, ask(tools, access.session, job)) for unit, job in pairs]
        check_array([each for _, each in asked])
        async with self._lock:
            await self._settle(tools)
        while fresh := [(unit, each) for unit, each in asked if not _has_run(tools, unit)]:
            # Others may submit while this one waits for what the local scheduler cannot wait for.
            plan = await plan_waiting(
                tools,
                [unit.dependency for unit, _ in fresh],
                cluster=fresh[0][1].cluster,
                scheduler=fresh[0][1].scheduler,
            )
            async with self._lock:
                if any(_has_run(tools, unit) for unit, _ in fresh):
                    continue
                for waiting in plan:
                    await self._submit(tools, fresh[waiting.tasks], waiting)
                return

    async def submit_group(self, unit: SlurmWorkUnit, jobs: Mapping[str, xm.Job]) -> None:
        """
        Submit a unit whose jobs start together, unless it has a run already.

        Raises:
            ArgumentError: If its jobs are for several clusters.
            ReproError: As `services.submit.submit`.
        """
        access = self._experiment.access
        tools = access.demand()
        self._lock = self._lock or asyncio.Lock()
        asked = [ask(tools, access.session, job, member=name) for name, job in jobs.items()]
        clusters = dict.fromkeys(each.cluster for each in asked)
        if len(clusters) > 1:
            raise ArgumentError(
                f"the jobs of a group are for several clusters: {', '.join(clusters)}",
                hint="They start together; add a unit for each cluster.",
            )
        async with self._lock:
            await self._settle(tools)
        while not _has_run(tools, unit):
            [waiting] = await plan_waiting(
                tools, [unit.dependency], cluster=asked[0].cluster, scheduler=asked[0].scheduler
            )
            async with self._lock:
                if not _has_run(tools, unit):
                    await self._submit_group(tools, unit, asked, waiting)

    async def _submit_group(
        self, tools: Tools, unit: SlurmWorkUnit, asked: Sequence[Asked], waiting: Waiting
    ) -> None:
        experiment_id = self._experiment.experiment_id
        try:
            work = WorkUnit(jobs=tuple(each.job for each in asked))
        except ValueError as error:
            raise ArgumentError(str(error)) from error
        digest = _keep_units(
            tools, experiment_id, [(unit, work)], [each.prepared for each in asked]
        )[0]
        self._note_identity(tools, unit)
        batch = Batch(
            experiment_id=experiment_id,
            runs=tuple(
                PlannedRun(
                    unit_number=unit.work_unit_id,
                    unit=digest,
                    member=each.job.name,
                    options=_waiting_options(each, waiting),
                )
                for each in asked
            ),
            cluster=asked[0].cluster,
            origin=asked[0].prepared.plan.origin,
        )
        try:
            receipts = await submit(tools, batch)
        except ReproError:
            self._note_begun(tools, [unit])
            raise
        unit.submitted(receipts[0], None, receipts[1:])
        whole = (receipts[0].job_id or "").partition("+")[0]
        sys.stderr.write(
            f"experiment {experiment_id}: work unit {unit.work_unit_id} is job {whole} on"
            f" {batch.cluster}, a group of {len(receipts)}\n"
        )

    def _note_identity(self, tools: Tools, unit: SlurmWorkUnit) -> None:
        if unit.identity:
            tools.record.annotate(
                self._experiment.experiment_id, unit.work_unit_id, IDENTITY, unit.identity
            )

    def _note_begun(self, tools: Tools, units: Sequence[SlurmWorkUnit]) -> None:
        """
        What was promised and is not known to be refused must not be submitted again, nor what was
        submitted before something else was refused.
        """
        known: dict[int, list[Receipt]] = {}
        for row in tools.record.runs(experiment_id=self._experiment.experiment_id):
            if row.receipt.job_id is not None or not row.state.is_final:
                known.setdefault(row.receipt.unit_number, []).append(row.receipt)
        for unit in units:
            unit.was_begun = True
            newest = newest_of(known.get(unit.work_unit_id, ()))
            if newest:
                unit.submitted(newest[0], None, newest[1:])

    async def _submit(
        self, tools: Tools, fresh: Sequence[tuple[SlurmWorkUnit, Asked]], waiting: Waiting
    ) -> None:
        experiment_id, first = self._experiment.experiment_id, fresh[0][1]
        runs = _plan_runs(tools, experiment_id, fresh)
        for unit, _ in fresh:
            self._note_identity(tools, unit)
        batch = Batch(
            experiment_id=experiment_id,
            runs=tuple(runs),
            cluster=first.cluster,
            options=_waiting_options(first, waiting),
            origin=first.prepared.plan.origin,
            max_parallel_tasks=first.max_parallel_tasks,
        )
        try:
            receipts = await submit(tools, batch)
        except ReproError:
            self._note_begun(tools, [unit for unit, _ in fresh])
            raise
        for (unit, asked), receipt in zip(fresh, receipts, strict=True):
            unit.submitted(receipt, asked.job.name)
        _say_submitted(receipts)

    async def _settle(self, tools: Tools) -> None:
        """Once for each experiment: finish what earlier processes could not confirm."""
        if self._is_settled:
            return
        self._is_settled = True
        for error in await settle(tools):
            logging.warning("%s", error.message)


def _waiting_options(asked: Asked, waiting: Waiting) -> tuple[tuple[str, str], ...]:
    if not waiting.option:
        return asked.options
    options = dict(asked.options)
    if "dependency" in options:
        raise ArgumentError(
            f"a dependency is given twice: {options['dependency']} in the executor's options and "
            f"{waiting.option} from the units it waits for",
            hint="Leave it out of `options`.",
        )
    options["dependency"] = waiting.option
    options["kill-on-invalid-dep"] = "yes" if asked.kill_on_invalid_dependencies else "no"
    return tuple(sorted(options.items()))


def _has_run(tools: Tools, unit: SlurmWorkUnit) -> bool:
    if unit.receipt is None:
        return False
    if unit.receipt.job_id is not None:
        return True
    row = row_of(tools, unit.receipt)
    return row.receipt.job_id is not None or not row.state.is_final


def _plan_runs(
    tools: Tools, experiment_id: int, fresh: Sequence[tuple[SlurmWorkUnit, Asked]]
) -> list[PlannedRun]:
    """Keep the units and let the manifest hold them; a run for each, with the unit's number."""
    works = [(unit, WorkUnit(jobs=(asked.job,))) for unit, asked in fresh]
    digests = _keep_units(tools, experiment_id, works, [fresh[0][1].prepared])
    return [
        PlannedRun(unit_number=unit.work_unit_id, unit=digest)
        for (unit, _), digest in zip(works, digests, strict=True)
    ]


def _keep_units(
    tools: Tools,
    experiment_id: int,
    works: Sequence[tuple[SlurmWorkUnit, WorkUnit]],
    prepared: Sequence[Prepared],
) -> list[Digest]:
    row = tools.record.experiment(experiment_id)
    known = set(read_manifest(tools.store, row).units) if row.manifest else set()
    with tools.store.batch() as batch:
        digests = [batch.put(canonical_json(work.to_json())) for _, work in works]
    # A process that was killed before it submitted may have left it in the manifest.
    missing = [
        work
        for (unit, work), digest in zip(works, digests, strict=True)
        if not (unit.was_begun and digest in known)
    ]
    if missing:
        add_units(tools, experiment_id, prepared[0], missing, *prepared[1:])
    return digests


def newest_of(receipts: Sequence[Receipt]) -> tuple[Receipt, ...]:
    """Of one unit's receipts, oldest first, that of its newest run, or those of its group."""
    if not receipts:
        return ()
    token = receipts[-1].run_id.token
    if receipts[-1].member is None:
        return (receipts[-1],)
    return tuple(each for each in receipts if each.run_id.token == token)


def _say_submitted(receipts: Sequence[Receipt]) -> None:
    first, last = receipts[0], receipts[-1]
    units = (
        f"work unit {first.unit_number} is"
        if len(receipts) == 1
        else f"work units {first.unit_number} to {last.unit_number} are tasks of"
    )
    ids = list(dict.fromkeys((each.job_id or "").partition("_")[0] for each in receipts))
    jobs = f"job {first.job_id if len(receipts) == 1 else ids[0]}"
    if len(ids) > 1:
        jobs = f"jobs {', '.join(ids)}" if len(ids) < 6 else f"jobs {ids[0]} to {ids[-1]}"
    sys.stderr.write(f"experiment {first.experiment_id}: {units} {jobs} on {first.cluster}\n")
