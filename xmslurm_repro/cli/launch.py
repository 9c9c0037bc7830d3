"""``launch``: a command, or an XManager launch script."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xmslurm_repro.cli.inputs import read_inputs
from xmslurm_repro.cli.output import (
    json_option,
    plural,
    print_fields,
    print_json,
    say_bytes,
    say_command,
    say_jobs,
    say_state,
)
from xmslurm_repro.cli.session import beside, run, settle_first
from xmslurm_repro.errors import UsageError
from xmslurm_repro.model.canonical import Json

if TYPE_CHECKING:
    from xmslurm_repro.model.work import Resources
    from xmslurm_repro.services.fastest import Offer
    from xmslurm_repro.services.launch import Launched, LaunchRequest
    from xmslurm_repro.services.prepare import Plan
    from xmslurm_repro.services.status import RunStatus
    from xmslurm_repro.services.tools import Tools


class _SplitCommand(click.Command):
    """Keeps what stands after ``--`` apart from what stands before it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the words after the first ``--`` away before the options are read."""
        rest: list[str] | None = None
        if "--" in args:
            cut = args.index("--")
            args, rest = args[:cut], args[cut + 1 :]
        ctx.meta["xmslurm_repro.rest"] = rest
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Show what may stand after ``--``."""
        return ["[OPTIONS]", "(-- COMMAND [ARGUMENT]... | SCRIPT.py [-- FLAG]...)"]


@click.command(cls=_SplitCommand)
@click.argument("script", required=False, type=click.Path(path_type=Path))
@click.option(
    "--cluster",
    "-c",
    metavar="NAME[,NAME]",
    help="Where to run; of several, where it would start first. See `clusters list`.",
)
@click.option("--base", metavar="IMAGE", help="Base image: a local name, a tag or a digest.")
@click.option("--lock", metavar="PATH", help="Lock file, from this folder.")
@click.option("--extra", "extras", multiple=True, metavar="NAME", help="Extra. Repeatable.")
@click.option(
    "--group", "groups", multiple=True, metavar="NAME", help="Dependency group. Repeatable."
)
@click.option(
    "--system-package",
    "system_packages",
    multiple=True,
    metavar="NAME",
    help="Debian package, locked by `base lock`. Repeatable.",
)
@click.option(
    "--build-sdists",
    is_flag=True,
    help="Build packages that have no wheel, once, in the base image.",
)
@click.option("--title", default="", help="What to call the experiment.")
@click.option(
    "--env",
    "-e",
    "variables",
    multiple=True,
    metavar="NAME=VALUE",
    help="Set a variable for the command. Repeatable.",
)
@click.option("--cpus", type=click.IntRange(1), help="CPUs per replica.  [default: 1]")
@click.option("--memory", metavar="SIZE", help="Memory per node, such as 4000M or 16G.")
@click.option("--gpus", type=click.IntRange(0), help="GPUs per replica.")
@click.option("--gpu-type", metavar="TYPE", help="As the cluster names it.")
@click.option("--replicas", type=click.IntRange(1), help="Copies of the command that meet.")
@click.option("--nodes", type=click.IntRange(1), help="Over how many nodes they are spread.")
@click.option("--time", "time_limit", metavar="LIMIT", help="As sbatch takes it: 90, 2-12:00, …")
@click.option(
    "--network",
    type=click.Choice(["none", "host"]),
    help="What the command may reach.  [default: none; host for replicas]",
)
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="NAME[=PATH]",
    help="Data on the cluster, as /xm/inputs/NAME, read-only. Repeatable.",
)
@click.option(
    "--secret",
    "secrets",
    multiple=True,
    metavar="NAME",
    help="Give the command this variable of yours, and record only its name. Repeatable.",
)
@click.option(
    "--option",
    "-o",
    "options",
    multiple=True,
    metavar="NAME[=VALUE]",
    help="A further option of the scheduler, by its long name. Repeatable.",
)
@click.option(
    "--sweep",
    "axes",
    multiple=True,
    metavar="NAME=V1,V2",
    help="A work unit for each value, or combination of values, of an argument. Repeatable.",
)
@click.option(
    "--sweep-file",
    type=click.Path(path_type=Path),
    help="A work unit for each line: arguments as JSON.",
)
@click.option(
    "--max-parallel", type=click.IntRange(1), help="How many units of a sweep run at once."
)
@click.option(
    "--include", multiple=True, metavar="PATTERN", help="Capture in any case. Repeatable."
)
@click.option("--exclude", multiple=True, metavar="PATTERN", help="Leave out. Repeatable.")
@click.option("--allow-unborn", is_flag=True, help="Accept a repository without any commit.")
@click.option("--no-git", is_flag=True, help="Accept a folder that is in no git repository.")
@click.option("--dry-run", is_flag=True, help="Capture and resolve, then stop.")
@click.option("--wait", "-w", "must_wait", is_flag=True, help="Wait for the end.")
@json_option
@click.pass_context
def launch(ctx: click.Context, /, script: Path | None, **given: Any) -> int:
    """
    Snapshot the work tree, build its image, record it, submit it.

    `launch -- python train.py --lr 0.1` runs a command in the folder you are in.
    `launch --sweep lr=0.1,0.2 -- python train.py` runs it once with each value.
    `launch launch.py -- --flag=1` runs an XManager launch script.

    Uncommitted and untracked files are captured too; nothing in your folder is written to.
    """
    rest: list[str] | None = ctx.meta["xmslurm_repro.rest"]
    if script is not None:
        return _launch_script(script, rest or [])
    if not rest:
        raise UsageError(
            "no command to launch",
            hint="Put it after two dashes: `xmslurm-repro launch -- python train.py`.",
        )
    argv = tuple(rest)
    return run(lambda tools: _launch(tools, _request(tools, argv, given), given))


def _launch_script(script: Path, words: list[str]) -> int:
    if script.suffix != ".py":
        raise UsageError(
            f"{script} is no launch script",
            hint="To run a command, put it after two dashes: "
            f"`xmslurm-repro launch -- {script} …`.",
        )
    if not script.is_file():
        raise UsageError(f"there is no launch script {script}")
    from xmslurm_repro.xm.launcher import run_launch_script

    run_launch_script(script, words)
    return 0


def _request(tools: Tools, argv: tuple[str, ...], given: Mapping[str, Any]) -> LaunchRequest:
    from xmslurm_repro.cli.sweep import read_sweep
    from xmslurm_repro.model.work import Network
    from xmslurm_repro.services.launch import LaunchRequest, default_network
    from xmslurm_repro.services.prepare import CodeRequest

    resources = _resources(tools.defaults.resources, given)
    sweep = read_sweep(argv, given["axes"], given["sweep_file"])
    if given["max_parallel"] and not sweep:
        raise UsageError("--max-parallel needs a sweep of several work units")
    return LaunchRequest(
        code=CodeRequest(
            start=Path(os.curdir).absolute(),
            base=given["base"],
            lock=given["lock"],
            extras=given["extras"] or None,
            groups=given["groups"] or None,
            build_sdists=given["build_sdists"] or None,
            system_packages=given["system_packages"] or None,
            allow_unborn=given["allow_unborn"] or given["no_git"],
            allow_no_repository=given["no_git"],
            include=given["include"],
            exclude=given["exclude"],
        ),
        argv=argv,
        env=dict(name_and_value(text, must_have_value=True) for text in given["variables"]),
        resources=resources,
        network=Network(given["network"])
        if given["network"]
        else default_network(tools, resources),
        title=given["title"] or say_command(argv),
        cluster=given["cluster"],
        options=tuple(sorted(name_and_value(text) for text in given["options"])),
        sweep=sweep,
        max_parallel_tasks=given["max_parallel"],
        secrets=_secrets(tools, given["secrets"]),
        inputs=read_inputs(given["inputs"]),
    )


def _secrets(tools: Tools, names: Sequence[str]) -> tuple[str, ...]:
    from xmslurm_repro.model.work import check_secret_name

    for name in names:
        try:
            check_secret_name(name)
        except ValueError:
            # Without the word itself: it may be NAME=VALUE.
            raise UsageError(
                "--secret takes a name of letters, digits and underscores",
                hint="Its value is taken from the environment, or from a command; see "
                "docs/reference/secrets.md.",
            ) from None
    return tuple(sorted({*tools.defaults.secrets, *names}))


def name_and_value(text: str, *, must_have_value: bool = False) -> tuple[str, str]:
    """Read ``NAME=VALUE``; without ``=`` the value is empty."""
    name, equals, value = text.partition("=")
    if not name or (must_have_value and not equals):
        raise UsageError(f"{text!r} is not of the form NAME=VALUE")
    return name.lstrip("-"), value


def _resources(default: Resources, given: Mapping[str, Any]) -> Resources:
    from xmslurm_repro.model.quantity import parse_memory_mib, parse_time_limit_minutes

    memory, limit = given["memory"], given["time_limit"]
    try:
        asked = {
            "cpus": given["cpus"],
            "memory_mib": parse_memory_mib(memory) if memory else None,
            "gpus": given["gpus"],
            "gpu_type": given["gpu_type"],
            "replicas": given["replicas"],
            "nodes": given["nodes"],
            "time_limit_minutes": parse_time_limit_minutes(limit) if limit else None,
        }
        said = {name: value for name, value in asked.items() if value is not None}
        return replace(default, **said)
    except ValueError as error:
        raise UsageError(str(error)) from error


async def _launch(tools: Tools, request: LaunchRequest, given: Mapping[str, Any]) -> int:
    from xmslurm_repro.cli.fastest import choose_cluster
    from xmslurm_repro.services.launch import launch, plan_launch

    chosen, offers = await choose_cluster(
        tools,
        request.cluster,
        request.resources,
        request.options,
        is_quiet=given["as_json"],
    )
    request = replace(request, cluster=chosen)
    if given["dry_run"]:
        _print_plan(plan_launch(tools, request), as_json=given["as_json"])
        return 0
    plan = await beside(tools, request.cluster, lambda: plan_launch(tools, request))
    await settle_first(tools)
    launched = await launch(tools, request, plan)
    if not given["as_json"]:
        _print_plan(plan, as_json=False)
        _print_launched(launched)
    if given["must_wait"]:
        return await _wait(tools, launched, offers, as_json=given["as_json"])
    if given["as_json"]:
        print_json(_launched_json(launched, offers))
    elif not given["must_wait"]:
        click.echo(f"Follow it with `xmslurm-repro logs {launched.experiment_id} --follow`.")
    return 0


def _print_plan(plan: Plan, *, as_json: bool) -> None:
    if as_json:
        document: dict[str, Json] = {
            "snapshot": str(plan.snapshot.root),
            "files": plan.snapshot.file_count,
            "size_bytes": plan.snapshot.size_bytes,
            "origin": plan.snapshot.origin.to_json(),
            "recipe": plan.recipe.to_json(),
            "workdir": plan.workdir,
        }
        print_json(document)
        return
    snapshot, origin = plan.snapshot, plan.snapshot.origin
    of = f"commit {origin.commit[:10]}" if origin.commit else "no commit"
    if origin.changed:
        of += f" + {plural(len(origin.changed), 'changed path')}"
    size = f"{plural(snapshot.file_count, 'file')}, {say_bytes(snapshot.size_bytes)}"
    print_fields(
        [
            ("snapshot", f"{snapshot.root.short}  {size} ({of})"),
            ("packages", _say_packages(plan)),
            ("base", f"{plan.base.reference}  {plan.base.manifest.digest}"),
        ]
    )
    for path, reason in origin.skipped:
        click.echo(f"  left out: {path} ({reason})")
    for remark in plan.remarks:
        click.echo(f"{click.style('warning:', fg='yellow', bold=True)} {remark}", err=True)
    for path, note in origin.notable:
        click.echo(f"{click.style('warning:', fg='yellow', bold=True)} {path}: {note}", err=True)


def _say_packages(plan: Plan) -> str:
    if plan.lock is None:
        return "none: the project declares no dependencies"
    conda = sum(artifact.is_conda for artifact in plan.lock.artifacts)
    wheels = len(plan.lock.artifacts) - conda
    said = [plural(conda, "conda package")] if conda else []
    built = sum(artifact.built is not None for artifact in plan.lock.artifacts)
    note = f" ({built} of them built here)" if built else ""
    said += [plural(wheels, "wheel") + note] if wheels or not conda else []
    return f"{' and '.join(said)} from {plan.lock.path}"


def _print_launched(launched: Launched) -> None:
    receipt = launched.receipts[0]
    print_fields(
        [
            ("image   ", str(launched.image.manifest.digest)),
            ("manifest", str(launched.manifest)),
        ]
    )
    for remark in launched.remarks:
        click.echo(f"{click.style('warning:', fg='yellow', bold=True)} {remark}", err=True)
    number = click.style(str(launched.experiment_id), bold=True)
    if len(launched.receipts) == 1:
        click.echo(f"Experiment {number} is job {receipt.job_id} on {receipt.cluster}.")
        return
    jobs = say_jobs([each.job_id or "" for each in launched.receipts])
    units = plural(len(launched.receipts), "work unit")
    click.echo(f"Experiment {number} is {units}, {jobs} on {receipt.cluster}.")


def _launched_json(launched: Launched, offers: Sequence[Offer]) -> dict[str, Json]:
    estimates: dict[str, Json] = {"estimates": [offer.to_json() for offer in offers]}
    return {
        **(estimates if offers else {}),
        "experiment": launched.experiment_id,
        "manifest": str(launched.manifest),
        "snapshot": str(launched.plan.snapshot.root),
        "image": str(launched.image.manifest.digest),
        "runs": [receipt.to_json() for receipt in launched.receipts],
    }


async def _wait(tools: Tools, launched: Launched, offers: Sequence[Offer], *, as_json: bool) -> int:
    from xmslurm_repro.cli.watching import watch
    from xmslurm_repro.services.status import with_outcomes

    number = launched.experiment_id
    runs = tools.record.runs(experiment_id=number)
    runs = await watch(tools, runs, str(number), is_quiet=as_json)
    finished = with_outcomes(tools, runs)
    if as_json:
        print_json(
            {
                **_launched_json(launched, offers),
                "status": [status.to_json() for status in finished],
            }
        )
    else:
        for status in finished:
            it = f"Work unit {status.run.receipt.unit_number}" if len(finished) > 1 else "It"
            click.echo(f"{it} ended: {say_state(status.run.state, _why(status))}.")
            for file in status.outcome.outputs if status.outcome else ():
                size = say_bytes(file.size_bytes)
                click.echo(f"  output {file.path}  {size}  sha256:{file.sha256.short}")
        if not all(run.state.is_success for run in runs):
            click.echo(f"See what it printed: `xmslurm-repro logs {launched.experiment_id}`.")
    return 0 if all(run.state.is_success for run in runs) else 1


def _why(status: RunStatus) -> str | None:
    """Why a run ended as it did: what somebody said, else a telling exit code."""
    code = status.outcome.exit_code if status.outcome else None
    return status.run.reason or (f"exit code {code}" if code else None)
