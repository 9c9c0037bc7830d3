"""
Every key that a configuration file may have, as data.

``docs/reference/configuration.md`` tells people the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from xmslurm_repro.config import kinds
from xmslurm_repro.config.kinds import Kind

RUNTIMES = (
    "auto",
    "bubblewrap",
    "podman",
    "apptainer",
    "singularity",
    "charliecloud",
    "docker",
    "enroot",
    "pyxis",
)


ARCHITECTURES = ("amd64", "arm64", "ppc64le", "riscv64", "s390x")
"""Of compute nodes, as OCI calls them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A table whose keys the user chooses: each name is checked, each value is read alike."""

    check_name: Callable[[str], None]
    each: Node


Node: TypeAlias = "Kind | Mapping[str, Node] | Named"

_CLUSTER: Mapping[str, Node] = {
    "scheduler": kinds.choice("slurm", "local"),
    "transport": kinds.choice("local", "ssh", "openssh"),
    "hosts": kinds.listed(kinds.text, "host names", lone=True),
    "user": kinds.text,
    "port": kinds.integer(1, 65535),
    "host_key": kinds.listed(kinds.text, "public keys", lone=True),
    "known_hosts": kinds.path,
    "identity_files": kinds.listed(kinds.path, "paths", lone=True),
    "ssh_config": kinds.path,
    "proxy_jump": kinds.listed(kinds.text, "host names", lone=True),
    "state_dir": kinds.text,
    "setup": kinds.commands,
    "teardown": kinds.commands,
    "runtime": kinds.choice(*RUNTIMES),
    "runtime_options": Named(check_name=kinds.option_name, each=kinds.option),
    "registry": kinds.text,
    "architecture": kinds.choice(*ARCHITECTURES),
    "gpu_types": Named(check_name=kinds.resource_name, each=kinds.text),
    "options": Named(check_name=kinds.option_name, each=kinds.option),
    "env": Named(check_name=kinds.variable_name, each=kinds.any_text),
    "inputs": Named(check_name=kinds.input_name, each=kinds.cluster_path),
}

FILE: Mapping[str, Node] = {
    "base": kinds.text,
    "lock": kinds.text,
    "extras": kinds.listed(kinds.text, "names of extras", lone=True),
    "groups": kinds.listed(kinds.text, "names of dependency groups", lone=True),
    "extra_system_packages": kinds.listed(kinds.text, "names of Debian packages", lone=True),
    "build_sdists": kinds.boolean,
    "default_cluster": kinds.text,
    "cache_dir": kinds.path,
    "secrets": kinds.listed(kinds.secret, "names of variables", lone=True),
    "secret_commands": Named(check_name=kinds.secret_name, each=kinds.command),
    "index_urls": kinds.listed(kinds.url, "URLs", lone=True),
    "wheelhouses": kinds.listed(kinds.path, "paths", lone=True),
    "registry": {
        "insecure_hosts": kinds.listed(kinds.text, "host names", lone=True),
        "ca_file": kinds.path,
    },
    "snapshot": {
        "include": kinds.listed(kinds.text, "patterns", lone=True),
        "exclude": kinds.listed(kinds.text, "patterns", lone=True),
        "max_file_size": kinds.file_size,
        "secrets": kinds.listed(kinds.text, "patterns", lone=True),
        "look_inside": kinds.boolean,
    },
    "defaults": {
        "cpus": kinds.integer(1),
        "memory": kinds.memory,
        "disk": kinds.memory,
        "gpus": kinds.integer(0),
        "gpu_type": kinds.text,
        "time_limit": kinds.time_limit,
        "replicas": kinds.integer(1),
        "nodes": kinds.integer(1),
        "gres": kinds.gres,
        "network": kinds.choice("none", "host"),
    },
    "clusters": Named(check_name=kinds.cluster_name, each=_CLUSTER),
}
"""The keys of a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """
    An environment variable: which key it sets, and how its text is parted.

    Attributes:
        separator: ``None`` for one value; otherwise what parts several, ``" "`` for any blanks.
    """

    path: tuple[str, ...]
    kind: Kind
    separator: str | None = None


VARIABLES: Mapping[str, Variable] = {
    "XMSLURM_REPRO_BASE": Variable(path=("base",), kind=kinds.text),
    "XMSLURM_REPRO_LOCK": Variable(path=("lock",), kind=kinds.text),
    "XMSLURM_REPRO_EXTRAS": Variable(path=("extras",), kind=kinds.text, separator=" "),
    "XMSLURM_REPRO_GROUPS": Variable(path=("groups",), kind=kinds.text, separator=" "),
    "XMSLURM_REPRO_EXTRA_SYSTEM_PACKAGES": Variable(
        path=("extra_system_packages",), kind=kinds.text, separator=" "
    ),
    "XMSLURM_REPRO_DEFAULT_CLUSTER": Variable(path=("default_cluster",), kind=kinds.text),
    "XMSLURM_REPRO_CACHE_DIR": Variable(path=("cache_dir",), kind=kinds.path),
    "XMSLURM_REPRO_INDEX_URLS": Variable(path=("index_urls",), kind=kinds.url, separator=" "),
    "XMSLURM_REPRO_WHEELHOUSES": Variable(path=("wheelhouses",), kind=kinds.path, separator=":"),
    "XMSLURM_REPRO_REGISTRY_INSECURE_HOSTS": Variable(
        path=("registry", "insecure_hosts"), kind=kinds.text, separator=" "
    ),
    "XMSLURM_REPRO_REGISTRY_CA_FILE": Variable(path=("registry", "ca_file"), kind=kinds.path),
}
"""Variables that set a key, over what files say. A set but empty one counts as not set."""

OTHER_VARIABLES = ("XMSLURM_REPRO_HOME", "XMSLURM_REPRO_CONFIG")
"""Where the data folder and the user's file are: no keys of a file."""
