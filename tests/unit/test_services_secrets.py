"""Secrets on their way through the services: asked for in time, and kept out of the record."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.support.world import MemoryCluster, make_prepared, make_world
from xmslurm_repro.errors import ConnectionLostError, MissingSecretError
from xmslurm_repro.model.canonical import canonical_json
from xmslurm_repro.model.work import Network, Resources, WorkUnit
from xmslurm_repro.services.launch import add_units, make_job
from xmslurm_repro.services.submit import Batch, settle, submit


class Known:
    """Knows what a test says, and counts how often it is asked."""

    def __init__(self, **values):
        self.values, self.count = values, 0

    def reveal(self, names):
        self.count += 1
        if missing := [name for name in names if name not in self.values]:
            raise MissingSecretError(missing)
        return tuple((name, self.values[name]) for name in names)


def planned(tools):
    """An experiment with one run that needs ``TOKEN``, ready to be submitted."""
    prepared = make_prepared(tools, {"main.py": b"print(1)\n"})
    job = make_job(
        prepared,
        argv=["python", "main.py"],
        env={},
        resources=Resources(),
        network=Network.NONE,
        secrets=["TOKEN"],
    )
    experiment_id = tools.record.new_experiment(title="", created_at=tools.now())
    runs = add_units(tools, experiment_id, prepared, [WorkUnit(jobs=(job,))])
    return Batch(experiment_id=experiment_id, runs=tuple(runs), cluster="alpha")


def test_a_value_reaches_the_cluster_and_no_object(tmp_path):
    tools, cluster = make_world(secrets=Known(TOKEN="opensesame"))

    receipts = asyncio.run(submit(tools, planned(tools)))

    (submission,) = cluster.submissions
    assert (("TOKEN", "opensesame"),) == submission.secret_values
    assert "opensesame" not in repr(submission)
    kept = [tools.store.get(digest) for digest in tools.store.digests()]
    assert not [data for data in kept if b"opensesame" in data]
    assert b"opensesame" not in b"".join(canonical_json(each.to_json()) for each in receipts)


def test_without_a_value_nothing_is_promised():
    tools, cluster = make_world(secrets=Known())

    with pytest.raises(MissingSecretError, match="TOKEN"):
        asyncio.run(submit(tools, planned(tools)))

    assert [] == cluster.submissions
    assert [] == list(tools.record.unconfirmed())


def test_a_value_is_not_asked_for_where_the_submission_has_arrived():
    lost = ConnectionLostError("cut", may_have_run=True)
    cluster = MemoryCluster(late_trouble={"submit": lost})
    tools, _ = make_world(secrets=Known(TOKEN="opensesame"), cluster=cluster)
    with pytest.raises(ConnectionLostError):
        asyncio.run(submit(tools, planned(tools)))
    cluster.late_trouble.clear()
    later = replace(tools, secrets=Known())

    assert [] == asyncio.run(settle(later))
    assert 0 == later.secrets.count
    assert [] == list(tools.record.unconfirmed())
