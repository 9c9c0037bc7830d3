"""``status``, ``list`` and ``show``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from xmslurm_repro.cli.errors import echo_error
from xmslurm_repro.cli.output import (
    json_option,
    plural,
    print_fields,
    print_json,
    print_table,
    say_bytes,
    say_command,
    say_state,
)
from xmslurm_repro.cli.session import run, settle_first
from xmslurm_repro.model.canonical import Json

if TYPE_CHECKING:
    from xmslurm_repro.model.manifest import Manifest
    from xmslurm_repro.model.work import Job
    from xmslurm_repro.services.status import ExperimentSummary, RunStatus
    from xmslurm_repro.services.tools import Tools


@click.command()
@click.argument("experiment", default="latest")
@click.option("--wait", "-w", "must_wait", is_flag=True, help="Wait until all runs have ended.")
@json_option
def status(experiment: str, must_wait: bool, as_json: bool) -> int:
    """
    Show where the runs of EXPERIMENT stand (by default the latest).

    With --wait a terminal shows them live. Ends with 1 when a run has ended other than well.
    """
    return _status(experiment, must_wait=must_wait, as_json=as_json)


@click.command()
@click.argument("experiment", default="latest")
@json_option
def wait(experiment: str, as_json: bool) -> int:
    """
    Wait until the runs of EXPERIMENT have ended (by default the latest), then show them.

    A terminal shows them live. Ends with 1 when a run has ended other than well.
    """
    return _status(experiment, must_wait=True, as_json=as_json)


def _status(experiment: str, *, must_wait: bool, as_json: bool) -> int:
    async def body(tools: Tools) -> int:
        from xmslurm_repro.services import status as service
        from xmslurm_repro.services.lookup import runs_of, select

        await settle_first(tools)
        selection = select(tools.record, experiment)
        if must_wait:
            from xmslurm_repro.cli.watching import watch

            runs = runs_of(tools.record, selection)
            await watch(tools, runs, selection.name, is_quiet=as_json)
        found = await service.status(tools, selection)
        if as_json:
            print_json([item.to_json() for item in found])
        else:
            _print_runs(found)
        ended = [item.run.state for item in found if item.run.state.is_final]
        return 0 if all(state.is_success for state in ended) else 1

    return run(body, is_quiet=as_json)


def _print_runs(found: Sequence[RunStatus]) -> None:
    if not found:
        click.echo("no runs")
        return
    rows = []
    for item in found:
        receipt, outcome = item.run.receipt, item.outcome
        facts = dict(outcome.facts) if outcome else {}
        rows.append(
            [
                receipt.name,
                say_state(item.run.state),
                receipt.cluster,
                receipt.job_id or "-",
                facts.get("node") or facts.get("hostname") or "-",
                "-" if outcome is None or outcome.exit_code is None else str(outcome.exit_code),
                plural(len(outcome.outputs), "output") if outcome else "-",
                item.run.reason or "",
            ]
        )
    header = ["unit", "state", "cluster", "job", "node", "exit", "outputs", "reason"]
    print_table(header, rows)


@click.command("list")
@click.option("--offline", is_flag=True, help="Ask no cluster; show what was last seen.")
@json_option
def list_(offline: bool, as_json: bool) -> int:
    """List all experiments. Clusters are asked about runs that have not ended."""

    async def body(tools: Tools) -> int:
        from xmslurm_repro.services.observe import refresh_unfinished
        from xmslurm_repro.services.status import summaries

        if not offline:
            await settle_first(tools)
            for error in await refresh_unfinished(tools):
                echo_error(error, label="warning")
        found = summaries(tools)
        if as_json:
            print_json([item.to_json() for item in found])
        elif found:
            _print_summaries(found)
        else:
            click.echo("No experiments yet. Begin with `xmslurm-repro launch -- COMMAND`.")
        return 0

    return run(body, is_quiet=as_json)


def _print_summaries(found: Sequence[ExperimentSummary]) -> None:
    rows = [
        [
            str(item.row.id),
            item.row.created_at,
            item.row.manifest.short if item.row.manifest else "-",
            ", ".join(f"{count} {state}" for state, count in item.states.items()) or "-",
            _say_title(item),
        ]
        for item in found
    ]
    print_table(["id", "launched", "manifest", "runs", "title"], rows)


def _say_title(item: ExperimentSummary) -> str:
    title = f"replay of {item.row.replay_of}" if item.row.replay_of else item.row.title
    return f"{title} ({click.style('damaged', fg='red')})" if item.trouble else title


@click.command()
@click.argument("experiment", default="latest")
@json_option
def show(experiment: str, as_json: bool) -> int:
    """Show all that is known of EXPERIMENT: what was meant, what was done, what came of it."""

    async def body(tools: Tools) -> int:
        from xmslurm_repro.services.lookup import read_manifest, read_unit, select
        from xmslurm_repro.services.status import status, summary

        await settle_first(tools)
        selection = select(tools.record, experiment)
        manifest = read_manifest(tools.store, selection.row)
        runs = await status(tools, selection)
        about = summary(tools, selection.row)
        if as_json:
            print_json(_show_json(about, manifest, runs))
        else:
            jobs = [job for digest in manifest.units for job in read_unit(tools.store, digest).jobs]
            _print_manifest(about, manifest, jobs)
            click.echo()
            _print_runs(runs)
            _print_outputs(runs)
        return 0

    return run(body, is_quiet=as_json)


def _show_json(
    about: ExperimentSummary, manifest: Manifest, runs: Sequence[RunStatus]
) -> dict[str, Json]:
    return {
        "experiment": about.to_json(),
        "manifest": manifest.to_json(),
        "runs": [item.to_json() for item in runs],
    }


def _print_manifest(about: ExperimentSummary, manifest: Manifest, jobs: Sequence[Job]) -> None:
    fields = [
        ("experiment", str(about.row.id)),
        ("title", about.row.title),
        ("launched", about.row.created_at),
        ("manifest", str(about.row.manifest)),
    ]
    if about.row.replay_of:
        fields.append(("replay of", str(about.row.replay_of)))
    fields += [("snapshot", str(root)) for root in manifest.snapshots]
    for lock in manifest.locks:
        fields.append(("lock", f"{lock.path}  {lock.digest}"))
    for image in manifest.images:
        fields.append(("image", str(image.manifest.digest)))
        fields.append(("base", f"{image.recipe.base_reference}  {image.recipe.base}"))
        fields += [
            (
                "package",
                f"{artifact.name} {artifact.version}  {artifact.sha256}"
                + (f"  built of {artifact.built.filename}" if artifact.built else ""),
            )
            for artifact in image.recipe.artifacts
        ]
    if about.command:
        fields.append(("command", say_command(about.command)))
    # What the units share is said once.
    inputs = {(each.name, each.digest): each for job in jobs for each in job.inputs}
    for each in inputs.values():
        fields.append(("input", f"{each.name}  {each.kind.value}  {each.digest}"))
    secrets = sorted({name for job in jobs for name in job.secrets})
    fields += [("secret", name) for name in secrets]
    print_fields(fields)


def _print_outputs(runs: Sequence[RunStatus]) -> None:
    for item in runs:
        if item.outcome is None:
            continue
        receipt = item.run.receipt
        click.echo(f"\nrun {receipt.run_id}, attempt {item.outcome.attempt}")
        print_fields([(name, value) for name, value in item.outcome.facts])
        for file in item.outcome.outputs:
            click.echo(f"output {file.path}  {say_bytes(file.size_bytes)}  {file.sha256}")
