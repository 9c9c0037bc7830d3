"""The batch script: whole in itself, so that nothing can change what a queued job will run."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from xmslurm_repro.cluster.program import compose
from xmslurm_repro.cluster.restarts import read_restarts
from xmslurm_repro.cluster.runtime import ContainerJob, Runtime
from xmslurm_repro.cluster.words import assign_array
from xmslurm_repro.errors import ImageError
from xmslurm_repro.model.image import Layer, LayerKind
from xmslurm_repro.ports.cluster import Member, PlacedInput, Submission

JOB_FILES = (
    "job",
    "job-end",
    "job-task",
    "listing",
    "inputs",
    "job-inputs",
    "job-secrets",
    "job-trees",
    "job-node",
    "job-measure",
    "job-run",
    "job-again",
)
"""The bash files that a job is made of."""

_DECOMPRESSORS = {"gzip": "gzip -dc", "zstd": "zstd -dc", "tar": "cat"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """
    What a site wants done around each job, on the node and outside the container.

    Attributes:
        setup: Bash commands; they may set variables and load modules.
        teardown: Bash commands; how they end changes nothing.
    """

    setup: str = ""
    teardown: str = ""

    def lines(self) -> Iterator[str]:
        """
        Lines of a script that carry the setup out and keep the teardown.

        A batch shell reads no profile, and ``module`` is a function that a profile defines.
        """
        if self.teardown:
            yield f"xm_teardown={shlex.quote(self.teardown)}\n"
        if self.setup:
            yield f"xm_setup={shlex.quote(self.setup)}\n"
            yield "xm_path=$PATH; . /etc/profile >&2; PATH=$PATH:$xm_path\n"
            yield 'eval "$xm_setup" >&2 || xm_setup_failed=$?\n'


PLAIN = Surroundings()


def render_script(  # noqa: PLR0913 (a job is decided by that many things)
    submission: Submission,
    *,
    state_dir: str,
    scheduler: str,
    directives: Sequence[str],
    runtime: Runtime,
    index_sha256: str,
    grace_seconds: int,
    surroundings: Surroundings = PLAIN,
    settings: Sequence[tuple[str, str]] = (),
) -> str:
    """
    Write the batch script of *submission*.

    Args:
        submission: What to run.
        state_dir: Absolute path on the cluster.
        scheduler: Its name, for the job's facts.
        directives: Lines for the scheduler.
        runtime: What runs the container.
        index_sha256: Of the task index that goes with it.
        grace_seconds: How long the command may take to end once it was asked to.
        surroundings: What the site wants done around it.
        settings: Further variables for the runtime's bash file.
    """
    restarts, _ = read_restarts(submission.options)
    members = submission.members
    values = (
        ("xm_token", submission.token),
        ("xm_task_count", str(len(submission.tasks))),
        ("xm_index_sha256", index_sha256),
        ("xm_state", state_dir),
        ("xm_scheduler", scheduler),
        ("xm_runtime", runtime.name),
        ("xm_full_check", "1" if submission.full_check else "0"),
        ("xm_grace_seconds", str(grace_seconds)),
        *restarts.values(),
        *settings,
    )
    is_many = len(members) > 1 or members[0].resources.replicas > 1
    many = ("job-many",) if is_many else ()
    return "".join(
        (
            "#!/bin/bash\n",
            *(f"{line}\n" for line in directives),
            *(f"{name}={shlex.quote(value)}\n" for name, value in values),
            *(_many_lines(members) if is_many else ()),
            *(_group_lines(members, runtime) if len(members) > 1 else _lines(members[0], runtime)),
            *(assign_array(name, words) for name, words in runtime.arrays),
            "\n",
            *surroundings.lines(),
            compose(*runtime.bash_files, *JOB_FILES, *many),
            "\n",
            "if [[ -n ${XM_MEMBER-} ]]; then xm_work; else xm_lead; fi\n"
            if is_many
            else "xm_main\n",
        )
    )


def _lines(member: Member, runtime: Runtime, indent: str = "") -> Iterator[str]:
    """Assignments of what is a member's own."""
    image = member.image
    code = tuple(layer for layer in image.layers if layer.kind is LayerKind.CODE)
    root = tuple(layer for layer in image.layers if layer.kind is not LayerKind.CODE)
    job = ContainerJob(
        workdir=member.workdir,
        network=member.network,
        has_code=bool(code),
        image=image.manifest.digest.hex,
        config=image.config.digest.hex,
    )
    values = (
        ("xm_image", f"sha256:{job.image}"),
        ("xm_config", f"sha256:{job.config}"),
        ("xm_root_key", tree_key(root)),
        ("xm_code_key", tree_key(code)),
        ("xm_network", member.network.value),
        ("xm_gpus", str(member.resources.gpus)),
    )
    yield from (f"{indent}{name}={shlex.quote(value)}\n" for name, value in values)
    yield assign_array("xm_secret_names", member.secrets, indent=indent)
    yield from _input_arrays(member.inputs, indent)
    yield assign_array("xm_root_layers", tuple(_layer_words(root)), indent=indent)
    yield assign_array("xm_code_layers", tuple(_layer_words(code)), indent=indent)
    yield f"{indent}xm_build_command() {{\n"
    yield assign_array("xm_command", runtime.command(job), indent=f"{indent}    ")
    yield f"{indent}}}\n"


def _group_lines(members: Sequence[Member], runtime: Runtime) -> Iterator[str]:
    yield "xm_be_member() {\n    case $1 in\n"
    for number, member in enumerate(members):
        yield f"    {number})\n"
        yield from _lines(member, runtime, indent="        ")
        yield "        ;;\n"
    yield "    esac\n}\nxm_be_member 0\n"


def _many_lines(members: Sequence[Member]) -> Iterator[str]:
    if len(members) > 1:
        yield f"xm_members={len(members)}\n"
    else:
        yield "xm_be_member() { :; }\n"
    yield assign_array("xm_names", tuple(member.name for member in members))
    yield assign_array("xm_ranks", tuple(str(m.resources.replicas) for m in members))
    yield assign_array("xm_cpus", tuple(str(member.resources.cpus) for member in members))


def _input_arrays(given: Sequence[PlacedInput], indent: str) -> Iterator[str]:
    yield assign_array("xm_input_names", tuple(each.content.name for each in given), indent=indent)
    yield assign_array("xm_input_paths", tuple(each.path for each in given), indent=indent)
    digests = (f"{each.content.kind.value}:{each.content.digest.hex}" for each in given)
    yield assign_array("xm_input_digests", tuple(digests), indent=indent)


def tree_key(layers: Iterable[Layer]) -> str:
    """Name the tree that *layers* make together; nothing for no layers."""
    text = "".join(f"{layer.diff_id}\n" for layer in layers)
    return hashlib.sha256(text.encode()).hexdigest() if text else ""


def _layer_words(layers: Iterable[Layer]) -> Iterable[str]:
    for layer in layers:
        yield f"{layer.diff_id.hex} {layer.blob.digest.hex} {_decompressor(layer)}"


def _decompressor(layer: Layer) -> str:
    suffix = layer.blob.media_type.replace("+", ".").rpartition(".")[2]
    try:
        return _DECOMPRESSORS[suffix]
    except KeyError:
        raise ImageError(
            f"layer {layer.title} has the media type {layer.blob.media_type}, "
            "which we cannot unpack"
        ) from None
