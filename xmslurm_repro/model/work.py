"""What one unit runs: jobs, each with image, argv, environment, inputs and resources."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum

from xmslurm_repro.model.canonical import Json
from xmslurm_repro.model.digest import Digest
from xmslurm_repro.model.reader import Reader

_FORMAT = "xmslurm-work-unit"


class Network(Enum):
    """What a job may reach: nothing, or what its node reaches."""

    NONE = "none"
    HOST = "host"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """
    What a job asks of a cluster. ``None`` means: whatever the cluster gives by default.

    Attributes:
        cpus: Per replica.
        memory_mib: Per node.
        disk_mib: Node-local scratch space.
        gpus: Per replica.
        gpu_type: As the cluster names it.
        time_limit_minutes: Wall clock.
        replicas: How many copies of the command run side by side.
        nodes: Over how many nodes they are spread.
        gres: Further generic resources by name.
    """

    cpus: int = 1
    memory_mib: int | None = None
    disk_mib: int | None = None
    gpus: int = 0
    gpu_type: str | None = None
    time_limit_minutes: int | None = None
    replicas: int = 1
    nodes: int | None = None
    gres: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        """Refuse quantities that no cluster can give."""
        for name in ("cpus", "memory_mib", "disk_mib", "time_limit_minutes", "replicas", "nodes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        if self.gpus < 0:
            raise ValueError(f"gpus must not be negative, not {self.gpus}")

    def to_json(self) -> dict[str, Json]:
        """Write what differs from nothing asked; the inverse of `from_json`."""
        written: dict[str, Json] = {"cpus": self.cpus}
        for name in ("memory_mib", "disk_mib", "gpu_type", "time_limit_minutes", "nodes"):
            if getattr(self, name) is not None:
                written[name] = getattr(self, name)
        if self.gpus:
            written["gpus"] = self.gpus
        if self.replicas != 1:
            written["replicas"] = self.replicas
        if self.gres:
            written["gres"] = dict(self.gres)
        return written

    @classmethod
    def from_json(cls, reader: Reader) -> Resources:
        """Read what `to_json` wrote."""

        def number(name: str) -> int | None:
            found = reader.maybe(name)
            return found.integer() if found else None

        gpu_type, gres = reader.maybe("gpu_type"), reader.maybe("gres")
        return cls(
            cpus=reader.field("cpus").integer(),
            memory_mib=number("memory_mib"),
            disk_mib=number("disk_mib"),
            gpus=number("gpus") or 0,
            gpu_type=gpu_type.text() if gpu_type else None,
            time_limit_minutes=number("time_limit_minutes"),
            replicas=number("replicas") or 1,
            nodes=number("nodes"),
            gres=tuple((name, item.integer()) for name, item in gres.members()) if gres else (),
        )


_SECRET_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_INPUT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")


class InputKind(Enum):
    """What an input is, which says what its digest is of: see `Input`."""

    FILE = "file"
    FOLDER = "folder"


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """
    Data on the cluster that a job reads.

    Attributes:
        name: What it is called in the job: ``/xm/inputs/<name>``.
        kind: A file or a folder.
        digest: SHA-256 of the file; of a folder that of the list of its files and links, which
            is written like the list of a run's outputs.
    """

    name: str
    kind: InputKind
    digest: Digest

    def __post_init__(self) -> None:
        """Refuse what could not be the name of a file."""
        check_input_name(self.name)


def check_input_name(name: str) -> None:
    """
    Refuse what no input can be called.

    Raises:
        ValueError: Saying what names are made of.
    """
    if not _INPUT_NAME.match(name):
        raise ValueError(
            f"{name!r} is no name for an input: letters, digits, dots, dashes and underscores"
        )


def check_secret_name(name: str) -> None:
    """
    Refuse what no secret can be called.

    Raises:
        ValueError: Saying why.
    """
    if not _SECRET_NAME.match(name):
        raise ValueError(f"{name!r} is no name for a secret: letters, digits and underscores")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """
    One command in one image.

    Attributes:
        name: Unique within its work unit.
        image: SHA-256 of the OCI image manifest.
        argv: The command, word by word, exact to the byte.
        env: The whole environment that the process gets, sorted by name. Nothing is added later
            but what differs from run to run by its nature (``XMSLURM_*``).
        workdir: Absolute path in the image.
        resources: What it asks of the cluster.
        network: What it may reach.
        inputs: Data on the cluster, sorted by name.
        secrets: Names of variables whose values are nowhere but in the process, sorted.
    """

    name: str
    image: Digest
    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    workdir: str
    resources: Resources = field(default_factory=Resources)
    network: Network = Network.NONE
    inputs: tuple[Input, ...] = ()
    secrets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what no process could be started with."""
        if not self.argv or not self.argv[0]:
            raise ValueError("the command is empty")
        for word in (*self.argv, *(part for pair in self.env for part in pair), self.workdir):
            if "\0" in word:
                raise ValueError(f"{word!r} holds a NUL, which no process can be given")
            try:
                word.encode("utf-8")
            except UnicodeEncodeError as error:
                raise ValueError(f"{word!r} is not valid Unicode") from error
        for name, _ in self.env:
            if not name or "=" in name:
                raise ValueError(f"{name!r} is no name for an environment variable")
        if not self.workdir.startswith("/"):
            raise ValueError(f"the work folder {self.workdir!r} is not absolute")
        if list(self.env) != sorted(dict(self.env).items()):
            raise ValueError("the environment is not sorted by name, or names one twice")
        self._check_names()

    def _check_names(self) -> None:
        names = [each.name for each in self.inputs]
        if names != sorted(set(names)):
            raise ValueError("the inputs are not sorted by name, or two have one name")
        if list(self.secrets) != sorted(set(self.secrets)):
            raise ValueError("the secrets are not sorted, or one is named twice")
        for name in self.secrets:
            check_secret_name(name)
            if name in dict(self.env):
                raise ValueError(f"{name} is a secret and set in the environment, too")

    def to_json(self) -> dict[str, Json]:
        """Write it as JSON; the inverse of `from_json`."""
        written: dict[str, Json] = {
            "name": self.name,
            "image": str(self.image),
            "argv": list(self.argv),
            "env": dict(self.env),
            "workdir": self.workdir,
            "resources": self.resources.to_json(),
            "network": self.network.value,
        }
        # Only where there are any: other work units keep their bytes.
        if self.inputs:
            written["inputs"] = {
                each.name: {"kind": each.kind.value, "digest": str(each.digest)}
                for each in self.inputs
            }
        if self.secrets:
            written["secrets"] = list(self.secrets)
        return written

    @classmethod
    def from_json(cls, reader: Reader) -> Job:
        """Read what `to_json` wrote."""
        network, inputs, secrets = (
            reader.field("network"),
            reader.maybe("inputs"),
            reader.maybe("secrets"),
        )
        try:
            return cls(
                name=reader.field("name").text(),
                image=reader.field("image").digest(),
                argv=reader.field("argv").texts(),
                env=tuple(reader.field("env").text_map().items()),
                workdir=reader.field("workdir").text(),
                resources=Resources.from_json(reader.field("resources")),
                network=Network(network.text()),
                inputs=_read_inputs(inputs) if inputs else (),
                secrets=secrets.texts() if secrets else (),
            )
        except ValueError as error:
            raise reader.fail(f"a job ({error})") from error


def _read_inputs(reader: Reader) -> tuple[Input, ...]:
    return tuple(
        Input(
            name=name,
            kind=InputKind(item.field("kind").text()),
            digest=item.field("digest").digest(),
        )
        for name, item in reader.members()
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkUnit:
    """
    What one unit runs: one job, or several that start together.

    Its digest is BLAKE3 of `to_json` in canonical form.
    """

    jobs: tuple[Job, ...]

    def __post_init__(self) -> None:
        """Refuse a unit without jobs, or with two of one name."""
        if not self.jobs:
            raise ValueError("a work unit has at least one job")
        names = [job.name for job in self.jobs]
        if len(set(names)) != len(names):
            raise ValueError(f"two jobs of the work unit have the same name: {names}")

    def job(self, member: str | None) -> Job:
        """
        The job of that name; the first where none is named.

        Raises:
            KeyError: If there is none.
        """
        for job in self.jobs:
            if member in {None, job.name}:
                return job
        raise KeyError(member)

    def to_json(self) -> dict[str, Json]:
        """Write it as JSON; the inverse of `from_json`."""
        return {"format": f"{_FORMAT}/1", "jobs": [job.to_json() for job in self.jobs]}

    @classmethod
    def from_json(cls, reader: Reader) -> WorkUnit:
        """Read what `to_json` wrote."""
        reader.format_version(_FORMAT, newest=1)
        jobs = reader.field("jobs")
        try:
            return cls(jobs=tuple(Job.from_json(item) for item in jobs.items()))
        except ValueError as error:
            raise jobs.fail(f"jobs ({error})") from error
