"""Resources and options of a submission as lines that sbatch reads."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from xmslurm_repro.cluster.restarts import read_restarts
from xmslurm_repro.cluster.scheduler import JOB_NAME_PREFIX
from xmslurm_repro.errors import SubmitRefusedError
from xmslurm_repro.model.work import Resources
from xmslurm_repro.ports.cluster import Member, Submission

_OPTION_NAME = re.compile(r"[a-z][a-z0-9-]*\Z")
_PLAIN = re.compile(r"[A-Za-z0-9_.,:/=@%+*()\[\]~^-]*\Z")
_UNSAYABLE = re.compile(r"[\x00-\x1f\x7f\"\\]")

OURS = frozenset(
    {
        "array", "chdir", "error", "export", "export-file", "get-user-env", "help", "input",
        "job-name", "open-mode", "output", "parsable", "quiet", "test-only", "usage", "version",
        "wait", "wrap",
    }
)  # fmt: skip
"""Options that decide whether we find the job again and what it gets; nobody else may set them."""

_ONCE = frozenset({"dependency", "kill-on-invalid-dep", "begin", "deadline", "signal"})
"""Options of a group that are said of its first job and hold for all."""


def directive(name: str, value: str = "") -> str:
    """
    One ``#SBATCH`` line.

    Raises:
        SubmitRefusedError: If sbatch could not read it back: it takes quotes and backslashes
            for its own and a line end for the end.
    """
    if not _OPTION_NAME.match(name):
        raise SubmitRefusedError(
            f"{name!r} is no option of sbatch",
            hint="Give long names without dashes, such as `partition`.",
        )
    if not value:
        return f"#SBATCH --{name}"
    if _UNSAYABLE.search(value):
        raise SubmitRefusedError(
            f"the value {value!r} of option `{name}` cannot be given to sbatch",
            hint="Leave out quotes, backslashes, line ends and other control characters.",
        )
    return f"#SBATCH --{name}={value}" if _PLAIN.match(value) else f'#SBATCH --{name}="{value}"'


def sbatch_directives(submission: Submission, folder: str) -> tuple[str, ...]:
    """
    All ``#SBATCH`` lines of *submission*. Its own options come last: they win.

    Raises:
        SubmitRefusedError: If an option is ours to set, or cannot be said.
    """
    lines: list[str] = []
    for number, member in enumerate(submission.members):
        if number:
            lines.append("#SBATCH hetjob")
        lines += _member_directives(submission, member, folder, is_first=not number)
    return tuple(lines)


def _member_directives(
    submission: Submission, member: Member, folder: str, *, is_first: bool
) -> list[str]:
    restarts, options = read_restarts(member.options)
    taken = sorted({name for name, _ in options} & OURS)
    if taken:
        raise SubmitRefusedError(
            f"options that the launcher sets itself were given: {', '.join(taken)}",
            hint="Remove them from the cluster's options and from the launch.",
        )
    count = 1 if submission.group else len(submission.tasks)
    pattern = "%A_%a" if count > 1 else "%j"
    lines = [
        directive("job-name", f"{JOB_NAME_PREFIX}{submission.token}"),
        directive("comment", _UNSAYABLE.sub(" ", submission.title)[:200] or "-"),
        directive("output", f"{_path(folder)}/slurm-{pattern}.out"),
        directive("open-mode", "append"),
    ]
    if count > 1:
        limit = submission.max_parallel_tasks
        lines.append(directive("array", f"0-{count - 1}" + (f"%{limit}" if limit else "")))
    given = {name for name, _ in options}
    if restarts.most == 0:
        options, given = tuple(o for o in options if o[0] != "requeue"), given - {"requeue"}
    if restarts.is_asked_for and restarts.most != 0 and "requeue" not in given:
        lines.append(directive("requeue"))
    elif not {"requeue", "no-requeue"} & given:
        lines.append(directive("no-requeue"))
    if is_first and restarts.grace_seconds is not None and "signal" not in given:
        # To the batch shell, which hands the chosen signal on: the command is no step of its own.
        lines.append(directive("signal", f"B:USR2@{restarts.grace_seconds}"))
    lines += (directive(name, value) for name, value in _resource_options(member.resources))
    lines += (directive(name, value) for name, value in options if is_first or name not in _ONCE)
    return lines


def estimate_directives(
    resources: Resources, options: Sequence[tuple[str, str]]
) -> tuple[str, ...]:
    """
    The ``#SBATCH`` lines that decide when a job starts. What it waits for is left out.

    Raises:
        SubmitRefusedError: If an option cannot be said.
    """
    _, rest = read_restarts(options)
    said = [*_resource_options(resources), *(o for o in rest if o[0] not in OURS | _ONCE)]
    return tuple(directive(name, value) for name, value in said)


def _path(folder: str) -> str:
    # sbatch replaces % in file names, and has no way to say it but doubling.
    return folder.replace("%", "%%")


def _resource_options(resources: Resources) -> Iterable[tuple[str, str]]:
    yield "ntasks", str(resources.replicas)
    yield "cpus-per-task", str(resources.cpus)
    if resources.nodes is not None:
        yield "nodes", str(resources.nodes)
    if resources.memory_mib is not None:
        yield "mem", f"{resources.memory_mib}M"
    if resources.disk_mib is not None:
        yield "tmp", f"{resources.disk_mib}M"
    if resources.time_limit_minutes is not None:
        yield "time", str(resources.time_limit_minutes)
    gpu = ":".join(("gpu", *((resources.gpu_type,) if resources.gpu_type else ())))
    is_one = resources.replicas == 1
    if resources.gpus and not is_one:
        # `gres` counts by node; where the replicas will be is not known yet.
        kind = f"{resources.gpu_type}:" if resources.gpu_type else ""
        yield "gpus-per-task", f"{kind}{resources.gpus}"
    gres = [f"{gpu}:{resources.gpus}"] if resources.gpus and is_one else []
    gres += (f"{name}:{count}" for name, count in resources.gres)
    if gres:
        yield "gres", ",".join(gres)
