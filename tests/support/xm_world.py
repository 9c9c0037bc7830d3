"""A session over tools in memory, for what launch scripts do."""

from __future__ import annotations

import asyncio
import datetime as dt
from contextlib import asynccontextmanager
from dataclasses import replace

from xmanager import xm

import xmslurm_repro.xm as xm_slurm
from tests.support.world import SteppingClock, make_prepared, make_world
from xmslurm_repro.config import ClusterSettings
from xmslurm_repro.xm.executables import PackagedImage
from xmslurm_repro.xm.session import Session, describe_in


class YieldingClock(SteppingClock):
    """Lets others run while somebody sleeps."""

    async def sleep(self, seconds):
        await super().sleep(seconds)
        await asyncio.sleep(0.001)


class World:
    """A session over tools in memory, and an executable in it."""

    def __init__(self):
        self.tools, self.cluster = make_world(clock=YieldingClock())
        self.scheduler = "slurm"
        self.described = {}
        self.opened = 0
        self.open_now = 0
        self.session = Session(
            open_tools=self._open, cluster=self._cluster, describe=self._describe
        )
        self.prepared = make_prepared(self.tools, {"train.py": b"pass"})

    @asynccontextmanager
    async def _open(self):
        self.opened += 1
        self.open_now += 1
        try:
            yield self.tools
        finally:
            self.open_now -= 1

    def _cluster(self, name):
        if name in self.described:
            return self.described[name]
        return ClusterSettings(
            name="alpha", scheduler=self.scheduler, gpu_types=(("A100", "a100l"),)
        )

    def _describe(self, settings):
        return describe_in(self.described, settings, known={})

    def executable(self, *, args=None, env_vars=None, files=None):
        return PackagedImage(
            name="train",
            prepared=make_prepared(self.tools, files) if files else self.prepared,
            entrypoint=("python", "-m", "train"),
            args=xm.SequentialArgs.from_collection(args),
            env_vars=env_vars or {},
        )

    def job(self, *, args=None, env_vars=None, executor=None, executable=None):
        return xm.Job(
            executable or self.executable(),
            executor or xm_slurm.Slurm(time=dt.timedelta(minutes=1)),
            args=args,
            env_vars=env_vars or {},
        )

    def create(self, title="t"):
        return xm_slurm.create_experiment(title, session=self.session)

    def get(self, number):
        return xm_slurm.get_experiment(number, session=self.session)

    @property
    def commands(self):
        return [[task.argv for task in each.tasks] for each in self.cluster.submissions]

    def read_only(self, wrap):
        """Let *wrap* stand before the record from now on."""
        self.tools = replace(self.tools, record=wrap(self.tools.record))

    async def submitted_apart(self, dependency):
        """Add a job that waits to an experiment of its own."""
        async with self.create() as experiment:
            await experiment.add(self.job(), dependency=dependency)
