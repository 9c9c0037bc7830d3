"""What a job sees of its experiment, and what reading an experiment leaves behind."""

from __future__ import annotations

import asyncio

import pytest
from xmanager import xm

import xmslurm_repro.xm as xm_slurm
from tests.support.xm_world import World
from xmslurm_repro.errors import NotSupportedError
from xmslurm_repro.model.run import RunState
from xmslurm_repro.xm.inside import experiment_of, work_unit_of

WRITES = {
    "add_outcome", "annotate", "confirm", "new_experiment", "promise", "set_manifest",
    "set_states", "withdraw",
}  # fmt: skip


class ReadOnly:
    """A record that cannot be written."""

    def __init__(self, record):
        self._record = record

    def __getattr__(self, name):
        assert name not in WRITES, f"{name} writes"
        return getattr(self._record, name)


def test_a_job_knows_its_experiment_and_work_unit(monkeypatch):
    monkeypatch.setenv("XMSLURM_EXPERIMENT_ID", "41")
    monkeypatch.setenv("XMSLURM_WORK_UNIT_ID", "3")

    unit = xm_slurm.get_current_work_unit()

    assert 41 == xm_slurm.get_current_experiment().experiment_id
    assert (41, 3, "41_3") == (unit.experiment_id, unit.work_unit_id, unit.experiment_unit_name)
    assert xm_slurm.get_current_experiment() == unit.experiment


@pytest.mark.parametrize(
    ("ask", "problem"),
    [
        (lambda unit: unit.stop(), "no stop of its work unit"),
        (lambda unit: unit.context.artifacts, "no context of its work unit"),
        (lambda unit: unit.experiment.add(None), "no add of its experiment"),
    ],
)
def test_a_job_cannot_change_its_experiment(ask, problem):
    unit = work_unit_of({"XMSLURM_EXPERIMENT_ID": "41", "XMSLURM_WORK_UNIT_ID": "3"})

    with pytest.raises(NotSupportedError, match=problem):
        ask(unit)

    assert not hasattr(unit, "__len__")


@pytest.mark.parametrize(
    "environ", [{}, {"XMSLURM_EXPERIMENT_ID": "x"}, {"XMSLURM_WORK_UNIT_ID": "1"}]
)
def test_what_is_no_job_of_ours_has_no_experiment(environ):
    assert (None, None) == (experiment_of(environ), work_unit_of(environ))


def test_reading_an_experiment_writes_nothing():
    world = World()
    with world.create() as experiment:
        experiment.add(world.job(), identity="a")
        experiment.context.artifacts["model"] = "s3://x"
        experiment.context.annotations.tags.add("a,b")
        experiment.context.python_config = "lr = 1"
        experiment.context.graphviz_config = "digraph {}"
    world.read_only(ReadOnly)

    for _ in range(3):
        again = world.get(1)
        assert {"model": "s3://x"} == dict(again.context.artifacts)
        assert ["a,b"] == list(again.context.annotations.tags)
        assert ("lr = 1", "digraph {}") == (
            again.context.python_config,
            again.context.graphviz_config,
        )
        assert ["a"] == [unit.identity for unit in again.work_units.values()]
        assert again.work_units() == again.work_units
        assert {} == dict(again.work_units[1].context.artifacts)


def test_configurations_can_be_taken_away_again():
    world = World()
    with world.create() as experiment:
        experiment.add(world.job())
        experiment.context.python_config = "lr = 1"
        experiment.context.graphviz_config = "digraph {}"
        del experiment.context.python_config
        del experiment.context.graphviz_config

    assert (None, None) == (experiment.context.python_config, experiment.context.graphviz_config)


@pytest.mark.parametrize("state", [state for state in RunState if state.is_final])
def test_only_a_run_that_ended_well_passes_wait_until_complete(state):
    world = World()

    async def main():
        async with world.create() as experiment:
            unit = await experiment.add(world.job())
            world.cluster.end(unit.receipt.run_id, state=state)
            await unit.wait_until_complete()

    if state is RunState.COMPLETED:
        asyncio.run(main())
        return
    with pytest.raises(xm.ExperimentUnitError):
        asyncio.run(main())
