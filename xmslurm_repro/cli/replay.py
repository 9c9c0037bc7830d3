"""``replay``: run it again, then say whether every byte came out the same."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from xmslurm_repro.cli.inputs import read_inputs
from xmslurm_repro.cli.output import json_option, plural, print_json
from xmslurm_repro.cli.session import run, settle_first
from xmslurm_repro.model.canonical import Json

if TYPE_CHECKING:
    from xmslurm_repro.services.replay import Replayed
    from xmslurm_repro.services.tools import Tools

EXIT_UNJUDGED = 9
"""A replay that ended without anything to compare is neither equal nor different."""


@click.command()
@click.argument("experiment")
@click.option("--cluster", "-c", metavar="NAME", help="Where; by default where it ran.")
@click.option(
    "--rebuild",
    is_flag=True,
    help="Build the image again from snapshot and lock, and demand the same digest.",
)
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="NAME=PATH",
    help="Where an input is on the cluster now. Repeatable.",
)
@click.option("--no-wait", is_flag=True, help="Submit only; `status` shows the verdict later.")
@json_option
def replay(
    experiment: str,
    cluster: str | None,
    rebuild: bool,
    inputs: tuple[str, ...],
    no_wait: bool,
    as_json: bool,
) -> int:
    """
    Submit EXPERIMENT again, exactly, and compare every output byte.

    The same image digest, command, environment and resources; your current files are not
    looked at. Ends with 0 when every byte is equal, 1 when something differs, 9 when there was
    nothing to compare.
    """

    async def body(tools: Tools) -> int:
        from xmslurm_repro.services.lookup import select
        from xmslurm_repro.services.replay import start_replay

        await settle_first(tools)
        selection = select(tools.record, experiment)
        places = read_inputs(inputs, must_have_path=True)
        replayed = await start_replay(
            tools, selection, cluster=cluster, rebuild=rebuild, inputs=places
        )
        if not as_json:
            _print_started(replayed)
        if no_wait:
            if as_json:
                print_json(_started_json(replayed))
            return 0
        return await _finish(tools, replayed, as_json=as_json)

    return run(body)


def _print_started(replayed: Replayed) -> None:
    for digest in replayed.rebuilt:
        click.echo(f"Image {digest} was built again and is the same.")
    jobs = ", ".join(receipt.job_id or "?" for receipt in replayed.receipts[:3])
    if len(replayed.receipts) > 3:
        jobs += ", …"
    where = replayed.receipts[0].cluster
    click.echo(
        f"Experiment {click.style(str(replayed.experiment_id), bold=True)} replays "
        f"{replayed.original_id}: {plural(len(replayed.receipts), 'run')} on {where} (job {jobs})."
    )


def _started_json(replayed: Replayed) -> dict[str, Json]:
    return {
        "experiment": replayed.experiment_id,
        "replay_of": replayed.original_id,
        "rebuilt": [str(digest) for digest in replayed.rebuilt],
        "runs": [receipt.to_json() for receipt in replayed.receipts],
    }


async def _finish(tools: Tools, replayed: Replayed, *, as_json: bool) -> int:
    from xmslurm_repro.cli.render import print_verdict
    from xmslurm_repro.services.replay import finish_replay

    verdicts, unjudged = await finish_replay(tools, replayed)
    numbers = {receipt.run_id: receipt.unit_number for receipt in replayed.receipts}
    # Named like what they repeat.
    names = {
        receipt.run_id: replace(receipt, experiment_id=replayed.original_id).name
        for receipt in replayed.receipts
    }
    if as_json:
        document = _started_json(replayed)
        document["verdicts"] = [
            {"unit": numbers[verdict.replay], **verdict.to_json()} for verdict in verdicts
        ]
        document["unjudged"] = [
            {"unit": numbers[item.replay], "run": str(item.replay), "reason": item.reason}
            for item in unjudged
        ]
        print_json(document)
    else:
        for verdict in verdicts:
            print_verdict(verdict, names[verdict.replay])
        for item in unjudged:
            click.echo(f"{names[item.replay]}: nothing to compare: {item.reason}")
    if any(not verdict.is_equal for verdict in verdicts):
        return 1
    return EXIT_UNJUDGED if unjudged or not verdicts else 0
