"""From files and the environment to settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from xmslurm_repro.config import folders
from xmslurm_repro.config.editing import lines_of_keys
from xmslurm_repro.config.layers import (
    Found,
    Layer,
    merge,
    raise_faults,
    read_file,
    read_variables,
    text_of,
)
from xmslurm_repro.config.settings import (
    LOCAL,
    ClusterSettings,
    ProxySettings,
    RegistrySettings,
    Settings,
    implicit_cluster,
)
from xmslurm_repro.model.choice import DEFAULT_MAX_FILE_BYTES, DEFAULT_SECRETS, Choice
from xmslurm_repro.model.work import Network, Resources

_GIT_VARIABLES = (
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_NOSYSTEM",
    "GIT_CONFIG_SYSTEM",
    "HOME",
    "XDG_CONFIG_HOME",
)

_Values = dict[tuple[str, ...], Found]


def load_settings(
    *,
    environ: Mapping[str, str],
    start: Path,
    home_override: Path | None = None,
    changed: Mapping[Path, str] = MappingProxyType({}),
) -> Settings:
    """
    Read the user's file, the project's file and the environment, the last one winning.

    Args:
        environ: The environment.
        start: The folder from which the project's file is looked for, upwards.
        home_override: The data folder, whatever the environment says.
        changed: Text by file: read as if it stood there.

    Raises:
        ConfigError: With everything that is wrong, each fault with file, key and what was
            expected.
    """
    user_home = folders.user_home(environ)
    files = _files(environ, start, changed)
    layers = [read_file(file, user_home, text=changed.get(file)) for file in files]
    values = merge([*layers, read_variables(environ, start, user_home)])
    home = (home_override or folders.data_folder(environ, start)).absolute()
    clusters, faults = _clusters(values)
    default_cluster, more_faults = _default_cluster(values, clusters)
    raise_faults([*faults, *more_faults, *_foreign_commands(files, layers)])
    return Settings(
        home=home,
        cache_dir=_value(values, "cache_dir") or home / "cache",
        user_home=user_home,
        base=_value(values, "base"),
        lock=_value(values, "lock"),
        extras=_value(values, "extras") or (),
        groups=_value(values, "groups") or (),
        build_sdists=_value(values, "build_sdists") or False,
        extra_system_packages=_value(values, "extra_system_packages") or (),
        default_cluster=default_cluster,
        clusters=clusters,
        index_urls=_value(values, "index_urls") or (),
        wheelhouses=_value(values, "wheelhouses") or (),
        registry=RegistrySettings(
            insecure_hosts=_value(values, "registry", "insecure_hosts") or (),
            ca_file=_value(values, "registry", "ca_file"),
            auth_files=folders.registry_auth_files(environ),
        ),
        proxies=_proxies(environ),
        choice=_choice(values),
        resources=_resources(values),
        network=Network(_value(values, "defaults", "network") or Network.NONE.value),
        ssh_agent=environ.get("SSH_AUTH_SOCK") or None,
        docker_host=environ.get("DOCKER_HOST") or None,
        git_environment={name: environ[name] for name in _GIT_VARIABLES if name in environ},
        secrets=tuple(sorted(set(_value(values, "secrets") or ()))),
        secret_commands={
            path[1]: found.value for path, found in values.items() if path[0] == "secret_commands"
        },
        environ=dict(environ),
        files=tuple(file for file in files if file.is_file()),
    )


def _files(
    environ: Mapping[str, str], start: Path, changed: Mapping[Path, str]
) -> tuple[Path, ...]:
    """The user's file, then the project's; it may be one that is only about to be written."""
    user = folders.user_file(environ)
    project = next((file for file in changed if file != user), folders.project_file(start))
    return (user,) if project is None else (user, project)


def cluster_settings_in_files(
    *, environ: Mapping[str, str], start: Path, name: str
) -> list[tuple[str, Any, str]]:
    """
    What files say of the cluster *name*: key, value, and ``file:line``; where two say the same
    key, the one that counts.

    Raises:
        ConfigError: If a file cannot be read.
    """
    stem, home, said = ("clusters", name), folders.user_home(environ), {}
    for file in _files(environ, start, {}):
        text = text_of(file)
        lines = lines_of_keys(text)
        for path, found in read_file(file, home, text=text).values.items():
            if path[:2] == stem and path[2:] and found.value is not None:
                place = f"{file}:{lines[path]}" if path in lines else str(file)
                said[".".join(path[2:])] = (found.value, place)
    return [(key, value, place) for key, (value, place) in sorted(said.items())]


def _foreign_commands(files: Sequence[Path], layers: Sequence[Layer]) -> list[str]:
    """A project that was got from somebody else must not run commands here."""
    return [
        f"{file}: secret_commands.{path[1]}: such commands may stand in the user's own file only"
        for file, layer in list(zip(files, layers, strict=True))[1:]
        for path in layer.values
        if path[0] == "secret_commands"
    ]


def _value(values: _Values, *path: str) -> Any:
    found = values.get(path)
    return found.value if found else None


def _clusters(values: _Values) -> tuple[dict[str, ClusterSettings], list[str]]:
    names = sorted({path[1] for path in values if path[0] == "clusters"})
    clusters, faults = {LOCAL: implicit_cluster()}, []
    for name in names:
        cluster = _cluster(name, values)
        place = next(f.place for path, f in values.items() if path[:2] == ("clusters", name))
        clusters[name] = cluster
        faults += [f"{place}: clusters.{name}: {fault}" for fault in _cluster_faults(cluster)]
    return dict(sorted(clusters.items())), faults


def _cluster(name: str, values: _Values) -> ClusterSettings:
    def get(key: str, otherwise: Any = None) -> Any:
        found = values.get(("clusters", name, key))
        return found.value if found else otherwise

    def table(key: str) -> tuple[tuple[str, str], ...]:
        stem = ("clusters", name, key)
        pairs = {path[3]: found.value for path, found in values.items() if path[:3] == stem}
        return tuple(sorted((k, v) for k, v in pairs.items() if v is not None))

    hosts = get("hosts", ())
    return ClusterSettings(
        name=name,
        scheduler=get("scheduler", "local" if name == LOCAL else "slurm"),
        transport=get("transport", "ssh" if hosts else "local"),
        hosts=hosts,
        user=get("user"),
        port=get("port"),
        host_keys=get("host_key", ()),
        known_hosts=get("known_hosts"),
        identity_files=get("identity_files", ()),
        ssh_config=get("ssh_config"),
        proxy_jump=get("proxy_jump", ()),
        state_dir=get("state_dir"),
        setup=get("setup", ""),
        teardown=get("teardown", ""),
        runtime=get("runtime", "auto"),
        runtime_options=table("runtime_options"),
        registry=get("registry"),
        architecture=get("architecture"),
        gpu_types=table("gpu_types"),
        options=table("options"),
        env=table("env"),
        inputs=table("inputs"),
    )


def _cluster_faults(cluster: ClusterSettings) -> list[str]:
    faults = []
    if cluster.transport == "local":
        remote = {
            "hosts": cluster.hosts,
            "user": cluster.user,
            "port": cluster.port,
            "host_key": cluster.host_keys,
            "known_hosts": cluster.known_hosts,
            "identity_files": cluster.identity_files,
            "ssh_config": cluster.ssh_config,
            "proxy_jump": cluster.proxy_jump,
        }
        given = ", ".join(name for name, value in remote.items() if value)
        if given:
            faults.append(f'transport is "local", which has no use for {given}')
    elif not cluster.hosts:
        faults.append(f'transport is "{cluster.transport}" and hosts is missing')
    if cluster.transport == "openssh" and cluster.host_keys:
        faults.append("host_key needs transport ssh; with openssh, give a known_hosts file")
    return faults


def _default_cluster(
    values: _Values, clusters: Mapping[str, ClusterSettings]
) -> tuple[str | None, list[str]]:
    chosen = values.get(("default_cluster",))
    if chosen is not None:
        if chosen.value in clusters:
            return chosen.value, []
        known = ", ".join(clusters)
        return None, [
            f"{chosen.place}: default_cluster: expected one of {known}, found {chosen.value!r}"
        ]
    configured = [name for name in clusters if name != LOCAL]
    if not configured:
        return LOCAL, []
    return (configured[0] if len(configured) == 1 else None), []


def _proxies(environ: Mapping[str, str]) -> ProxySettings:
    def get(name: str) -> str | None:
        # Lower case wins, as it does for curl.
        return environ.get(name) or environ.get(name.upper()) or None

    return ProxySettings(
        http=get("http_proxy") or get("all_proxy"),
        https=get("https_proxy") or get("all_proxy"),
        exceptions=tuple(
            host.strip() for host in (get("no_proxy") or "").split(",") if host.strip()
        ),
    )


def _choice(values: _Values) -> Choice:
    def get(key: str, otherwise: Any) -> Any:
        found = values.get(("snapshot", key))
        return found.value if found else otherwise

    return Choice(
        include=get("include", ()),
        exclude=get("exclude", ()),
        max_file_bytes=get("max_file_size", DEFAULT_MAX_FILE_BYTES) or None,
        secrets=get("secrets", DEFAULT_SECRETS),
        looks_inside=get("look_inside", True),
    )


def _resources(values: _Values) -> Resources:
    def get(key: str, otherwise: Any = None) -> Any:
        found = values.get(("defaults", key))
        return found.value if found else otherwise

    return Resources(
        cpus=get("cpus", 1),
        memory_mib=get("memory"),
        disk_mib=get("disk"),
        gpus=get("gpus", 0),
        gpu_type=get("gpu_type"),
        time_limit_minutes=get("time_limit"),
        replicas=get("replicas", 1),
        nodes=get("nodes"),
        gres=get("gres", ()),
    )
