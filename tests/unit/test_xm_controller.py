"""Parameter controllers, in a world of memory."""

from __future__ import annotations

import asyncio

import pytest
from xmanager import xm

from tests.support.xm_world import World
from xmslurm_repro.xm.experimental.parameter_controller import parameter_controller


@pytest.fixture
def world():
    return World()


def controlled(function):
    return parameter_controller(executable=None, executor=None)(function)


def test_a_controller_adds_units_beside_the_script_and_is_waited_for(world):
    order = []

    @controlled
    async def control(experiment, *, first: int):
        for number in range(first, first + 2):
            await experiment.add(world.job(args=[str(number)]), identity=f"unit-{number}")
            await asyncio.sleep(0)
        order.append("controller")

    async def main():
        async with world.create() as experiment:
            await experiment.add(control(first=3), identity="controller")
            order.append("script")

    asyncio.run(asyncio.wait_for(main(), 60))

    assert ["script", "controller"] == order
    assert ["3", "4"] == [words[-1] for [words] in world.commands]


def test_a_plain_function_may_wait_for_what_it_adds(world):
    @controlled
    def control(experiment):
        experiment.add(world.job())

    with world.create() as experiment:
        experiment.add(control())

    assert 1 == len(world.commands)


def test_what_goes_wrong_in_a_controller_ends_the_script(world):
    @controlled
    async def control(experiment):
        raise LookupError("no more parameters")

    async def main():
        async with world.create() as experiment:
            await experiment.add(world.job())
            await experiment.add(control())

    with pytest.raises(LookupError, match="no more parameters"):
        asyncio.run(asyncio.wait_for(main(), 60))


def test_a_controller_is_an_auxiliary_unit(world):
    @controlled
    async def control(experiment):
        del experiment

    assert isinstance(control(), xm.AuxiliaryUnitJob)
    assert "control" == control.__name__
