"""From files and the environment to settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from xmslurm_repro.config import ClusterSettings, ProxySettings, Settings, load_settings
from xmslurm_repro.errors import ConfigError, UnknownClusterError
from xmslurm_repro.model.work import Network, Resources


class Machine:
    """A home folder and a git work tree with a folder in it."""

    def __init__(self, root: Path) -> None:
        self.home = root / "home"
        self.project = root / "project"
        self.start = self.project / "src" / "deep"
        self.start.mkdir(parents=True)
        (self.project / ".git").mkdir()
        self.environ = {"HOME": str(self.home)}

    def user(self, text: str) -> Path:
        file = self.home / ".config" / "xmslurm-repro" / "config.toml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def local(self, text: str, folder: Path | None = None) -> Path:
        file = (folder or self.project) / "xmslurm-repro.toml"
        file.write_text(text)
        return file

    def load(self, **environ: str) -> Settings:
        return load_settings(environ={**self.environ, **environ}, start=self.start)

    def faults(self, **environ: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            self.load(**environ)
        return list(caught.value.details or (caught.value.message,))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_without_any_configuration_there_is_this_machine(machine: Machine):
    settings = machine.load()

    assert "local" == settings.default_cluster
    assert settings.cluster(None) == ClusterSettings(
        name="local", scheduler="local", transport="local", runtime="auto"
    )
    assert machine.home / ".local/share/xmslurm-repro" == settings.home
    assert settings.home / "cache" == settings.cache_dir
    assert Resources() == settings.resources
    assert Network.NONE is settings.network
    assert () == settings.files


def test_every_key_arrives(machine: Machine):
    file = machine.local(
        """
        base = "registry.example/py:3.11"
        lock = "locks/uv.lock"
        default_cluster = "alpha"
        cache_dir = "~/fast"
        index_urls = ["https://one.example/simple", "http://two.example/simple"]
        wheelhouses = "wheels"

        [registry]
        insecure_hosts = ["localhost:5000"]
        ca_file = "/etc/ca.pem"

        [defaults]
        cpus = 4
        memory = "16G"
        disk = 500
        gpus = 2
        gpu_type = "a100"
        time_limit = "1-12:00"
        replicas = 2
        nodes = 2
        gres = { licence = 3 }
        network = "host"

        [clusters.alpha]
        scheduler = "slurm"
        transport = "ssh"
        hosts = ["login1.example", "login2.example"]
        user = "alice"
        port = 2222
        host_key = "ssh-ed25519 AAAA"
        known_hosts = "keys"
        identity_files = ["~/.ssh/id_one"]
        ssh_config = "/etc/ssh/other"
        proxy_jump = ["me@jump:2222", "inner"]
        state_dir = "/scratch/alice/xm"
        runtime = "apptainer"
        registry = "registry.example/group/images"

        [clusters.alpha.runtime_options]
        fakeroot = true

        [clusters.alpha.gpu_types]
        A100_1G_5GIB = "a100_1g.5gb"

        [clusters.alpha.options]
        partition = "gpu"
        nice = 100
        exclusive = true
        requeue = false

        [clusters.alpha.env]
        HF_HOME = "/scratch/hf cache"
        """
    )

    settings = machine.load()

    assert settings == Settings(
        home=machine.home / ".local/share/xmslurm-repro",
        cache_dir=machine.home / "fast",
        user_home=machine.home,
        git_environment={"HOME": str(machine.home)},
        base="registry.example/py:3.11",
        lock="locks/uv.lock",
        default_cluster="alpha",
        clusters={
            "alpha": ClusterSettings(
                name="alpha",
                scheduler="slurm",
                transport="ssh",
                hosts=("login1.example", "login2.example"),
                user="alice",
                port=2222,
                host_keys=("ssh-ed25519 AAAA",),
                known_hosts=machine.project / "keys",
                identity_files=(machine.home / ".ssh/id_one",),
                ssh_config=Path("/etc/ssh/other"),
                proxy_jump=("me@jump:2222", "inner"),
                state_dir="/scratch/alice/xm",
                runtime="apptainer",
                runtime_options=(("fakeroot", ""),),
                registry="registry.example/group/images",
                gpu_types=(("A100_1G_5GIB", "a100_1g.5gb"),),
                options=(("exclusive", ""), ("nice", "100"), ("partition", "gpu")),
                env=(("HF_HOME", "/scratch/hf cache"),),
            ),
            "local": ClusterSettings(name="local", scheduler="local"),
        },
        index_urls=("https://one.example/simple", "http://two.example/simple"),
        wheelhouses=(machine.project / "wheels",),
        registry=type(settings.registry)(
            insecure_hosts=("localhost:5000",),
            ca_file=Path("/etc/ca.pem"),
            auth_files=(
                machine.home / ".config/containers/auth.json",
                machine.home / ".docker/config.json",
            ),
        ),
        resources=Resources(
            cpus=4,
            memory_mib=16384,
            disk_mib=500,
            gpus=2,
            gpu_type="a100",
            time_limit_minutes=36 * 60,
            replicas=2,
            nodes=2,
            gres=(("licence", 3),),
        ),
        network=Network.HOST,
        files=(file,),
    )


def test_the_project_wins_over_the_user_key_by_key_and_the_environment_over_both(
    machine: Machine,
):
    user = machine.user(
        """
        base = "user"
        lock = "user.lock"
        default_cluster = "alpha"
        wheelhouses = ["a"]
        [clusters.alpha]
        hosts = "login.example"
        user = "alice"
        [clusters.alpha.options]
        account = "mine"
        partition = "cpu"
        requeue = true
        """
    )
    project = machine.local(
        """
        base = "project"
        lock = "project.lock"
        [clusters.alpha.options]
        partition = "gpu"
        requeue = false
        """
    )

    settings = machine.load(XMSLURM_REPRO_LOCK="variable.lock", XMSLURM_REPRO_BASE="")

    assert ("project", "variable.lock") == (settings.base, settings.lock)
    assert ("login.example",) == settings.cluster("alpha").hosts
    assert "ssh" == settings.cluster("alpha").transport
    assert "alice" == settings.cluster("alpha").user
    assert (("account", "mine"), ("partition", "gpu")) == settings.cluster("alpha").options
    assert (user.parent / "a",) == settings.wheelhouses
    assert (user, project) == settings.files


def test_the_nearest_project_file_counts_alone(machine: Machine):
    machine.local('base = "top"\nlock = "top.lock"')
    machine.local('base = "near"', machine.start.parent)

    settings = machine.load()

    assert ("near", None) == (settings.base, settings.lock)


def test_no_project_file_is_taken_from_above_the_work_tree(machine: Machine):
    machine.local('base = "above"', machine.project.parent)

    assert machine.load().base is None


def test_outside_a_work_tree_only_the_folder_itself_is_looked_at(tmp_path: Path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "xmslurm-repro.toml").write_text('base = "here"')

    def base(folder: Path) -> str | None:
        return load_settings(environ={"HOME": str(tmp_path / "home")}, start=folder).base

    assert "here" == base(tmp_path)
    assert base(tmp_path / "sub") is None


def test_the_data_folder_is_where_the_caller_then_the_environment_then_the_platform_says(
    machine: Machine, tmp_path: Path
):
    def home(override: Path | None = None, **environ: str) -> Path:
        return load_settings(
            environ={**machine.environ, **environ}, start=machine.start, home_override=override
        ).home

    assert tmp_path / "x" == home(tmp_path / "x", XMSLURM_REPRO_HOME="/else")
    assert Path("/else") == home(XMSLURM_REPRO_HOME="/else")
    assert machine.start / "rel" == home(XMSLURM_REPRO_HOME="rel")
    assert machine.home / "data" == home(XMSLURM_REPRO_HOME="~/data")
    assert Path("/xdg/xmslurm-repro") == home(XDG_DATA_HOME="/xdg")
    assert machine.home / ".local/share/xmslurm-repro" == home(XDG_DATA_HOME="not/absolute")


def test_the_platform_folders_are_those_of_platformdirs(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
):
    import platformdirs

    monkeypatch.setenv("HOME", str(machine.home))
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    expected = platformdirs.user_data_path("xmslurm-repro", appauthor=False)
    config = platformdirs.user_config_path("xmslurm-repro", appauthor=False)
    config.mkdir(parents=True)
    (config / "config.toml").write_text('base = "found"')

    settings = machine.load()

    assert (expected, "found") == (settings.home, settings.base)


def test_the_users_file_may_be_named_by_a_variable(machine: Machine, tmp_path: Path):
    machine.user('base = "usual"')
    (tmp_path / "other.toml").write_text('base = "other"')

    assert "other" == machine.load(XMSLURM_REPRO_CONFIG=str(tmp_path / "other.toml")).base


def test_variables_may_hold_several_values(machine: Machine):
    settings = machine.load(
        XMSLURM_REPRO_INDEX_URLS=" https://a.example/simple  https://b.example/simple ",
        XMSLURM_REPRO_WHEELHOUSES="/one:two",
        XMSLURM_REPRO_REGISTRY_INSECURE_HOSTS="localhost:5000",
        XMSLURM_REPRO_DEFAULT_CLUSTER="local",
    )

    assert ("https://a.example/simple", "https://b.example/simple") == settings.index_urls
    assert (Path("/one"), machine.start / "two") == settings.wheelhouses
    assert ("localhost:5000",) == settings.registry.insecure_hosts


def test_everything_wrong_in_all_files_is_said_at_once(machine: Machine):
    user = machine.user(
        """
        bsae = "x"
        index_urls = ["https://fine.example", "ftp://alice:s3cret@x.example"]
        """
    )
    project = machine.local(
        """
        lock = 3
        default_cluster = ""
        registry = "r"
        clusters.beta = 1
        clusters."bad name".port = 1
        [defaults]
        cpus = 0
        memory = "a lot"
        time_limit = true
        gres = { gpu = 0 }
        network = "internet"
        [clusters.alpha]
        hosts = ["ok", 3]
        port = "22"
        runtime = "dcoker"
        options = { "--partition" = "gpu", nice = 1.5 }
        env = { TOKEN = 12345 }
        scheduller = "slurm"
        """
    )

    assert [
        f"{user}: bsae: unknown key; did you mean base?",
        (
            f"{user}: index_urls: expected an array of URLs, each a URL that starts with https:// or"
            " http://"
        ),
        f"{project}: lock: expected text, found 3",
        f"{project}: default_cluster: expected text, found ''",
        f"{project}: registry: expected a table, found 'r'",
        f"{project}: clusters.beta: expected a table, found 1",
        (
            f"{project}: clusters.bad name: the key is not a name of letters, digits, dots, dashes and"
            " underscores"
        ),
        (
            f"{project}: clusters.alpha.hosts: expected an array of host names, each text, found"
            " ['ok', 3]"
        ),
        f"{project}: clusters.alpha.port: expected a whole number from 1 to 65535, found '22'",
        (
            f'{project}: clusters.alpha.runtime: expected "auto", "bubblewrap", "podman",'
            ' "apptainer", "singularity", "charliecloud", "docker", "enroot" or "pyxis", found \'dcoker\''
        ),
        (
            f"{project}: clusters.alpha.options.--partition: the key is not a long option's name"
            " without dashes before it"
        ),
        (
            f"{project}: clusters.alpha.options.nice: expected text, a whole number, true or false,"
            " found 1.5"
        ),
        f"{project}: clusters.alpha.env.TOKEN: expected text",
        f"{project}: clusters.alpha.scheduller: unknown key; did you mean scheduler?",
        f"{project}: defaults.cpus: expected a whole number of at least 1, found 0",
        (
            f'{project}: defaults.memory: expected an amount of memory such as "16G", or a number of'
            " MiB, found 'a lot'"
        ),
        (
            f'{project}: defaults.time_limit: expected a time limit such as "1-12:00", or a number of'
            " minutes, found True"
        ),
        (
            f"{project}: defaults.gres: expected a table with a whole number of at least 1 for each"
            " name, found {'gpu': 0}"
        ),
        f'{project}: defaults.network: expected "none" or "host", found \'internet\'',
    ] == machine.faults()


def test_a_lone_fault_is_the_message_itself(machine: Machine):
    project = machine.local("bse = 1")

    with pytest.raises(ConfigError) as caught:
        machine.load()

    assert f"{project}: bse: unknown key; did you mean base?" == caught.value.message
    assert () == caught.value.details


def test_an_unknown_variable_of_ours_is_an_error(machine: Machine):
    assert [
        "the environment variable XMSLURM_REPRO_BAS is not known; did you mean XMSLURM_REPRO_BASE?"
    ] == machine.faults(XMSLURM_REPRO_BAS="x")


def test_a_wrong_variable_is_named(machine: Machine):
    assert [
        (
            "the environment variable XMSLURM_REPRO_INDEX_URLS: expected a URL that starts with"
            " https:// or http://"
        )
    ] == machine.faults(XMSLURM_REPRO_INDEX_URLS="ftp://alice:s3cret@x.example")


def test_a_file_that_is_no_toml_says_where_it_stops_being_one(machine: Machine):
    project = machine.local("base = \n")

    with pytest.raises(ConfigError) as caught:
        machine.load()

    assert f"{project} is not TOML: " in caught.value.message
    assert "line 1" in caught.value.message


def test_a_file_that_is_no_text_says_so(machine: Machine):
    project = machine.local("")
    project.write_bytes(b"base = '\xff'")

    with pytest.raises(ConfigError, match=r"xmslurm-repro\.toml cannot be read"):
        machine.load()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('transport = "ssh"', 'transport is "ssh" and hosts is missing'),
        ('transport = "openssh"', 'transport is "openssh" and hosts is missing'),
        (
            'transport = "local"\nhosts = "h"\nport = 22',
            'transport is "local", which has no use for hosts, port',
        ),
        ('user = "alice"', 'transport is "local", which has no use for user'),
        (
            'transport = "openssh"\nhosts = "h"\nhost_key = "ssh-ed25519 AAAA"',
            "host_key needs transport ssh; with openssh, give a known_hosts file",
        ),
    ],
)
def test_keys_that_contradict_each_other_are_refused(machine: Machine, text: str, fault: str):
    project = machine.local(f"[clusters.alpha]\n{text}\n")

    assert [f"{project}: clusters.alpha: {fault}"] == machine.faults()


def test_a_default_cluster_must_be_one_that_is_configured(machine: Machine):
    project = machine.local('default_cluster = "alhpa"\n[clusters.alpha]\n')

    assert [
        f"{project}: default_cluster: expected one of alpha, local, found 'alhpa'"
    ] == machine.faults()


def test_a_lone_configured_cluster_is_the_default(machine: Machine):
    machine.local("[clusters.alpha]\n")

    settings = machine.load()

    assert "alpha" == settings.cluster(None).name
    assert ("slurm", "local") == (
        settings.cluster("alpha").scheduler,
        settings.cluster("alpha").transport,
    )
    assert "local" == settings.cluster("local").scheduler


def test_with_several_clusters_one_has_to_be_named(machine: Machine):
    machine.local("[clusters.alpha]\n[clusters.beta]\n")

    with pytest.raises(UnknownClusterError) as caught:
        machine.load().cluster(None)

    assert ("known: alpha, beta, local",) == caught.value.details


def test_an_unknown_cluster_is_answered_with_those_that_are_known(machine: Machine):
    project = machine.local("[clusters.alpha]\n")

    with pytest.raises(UnknownClusterError, match="no cluster is called 'alpah'") as close:
        machine.load().cluster("alpah")
    with pytest.raises(UnknownClusterError) as far:
        machine.load().cluster("zzz")

    assert "Did you mean `alpha`?" == close.value.hint
    assert ("known: alpha, local",) == close.value.details
    assert f"Describe it as [clusters.zzz] in {project}." == far.value.hint


def test_the_local_cluster_may_be_changed(machine: Machine):
    machine.local('[clusters.local]\nruntime = "podman"\n')

    assert machine.load().cluster(None) == ClusterSettings(
        name="local", scheduler="local", transport="local", runtime="podman"
    )


def test_registry_credentials_are_looked_for_where_podman_and_docker_keep_them(machine: Machine):
    def places(**environ: str) -> list[str]:
        return [str(path) for path in machine.load(**environ).registry.auth_files]

    assert ["/run/u/containers/auth.json", "/xdg/containers/auth.json", "/d/config.json"] == places(
        XDG_RUNTIME_DIR="/run/u", XDG_CONFIG_HOME="/xdg", DOCKER_CONFIG="/d"
    )
    assert ["/auth.json", f"{machine.home}/.docker/config.json"] == places(
        REGISTRY_AUTH_FILE="/auth.json", XDG_RUNTIME_DIR="/run/u"
    )


def test_proxies_and_the_agent_come_from_the_usual_variables(machine: Machine):
    settings = machine.load(
        HTTP_PROXY="http://upper", http_proxy="http://lower", ALL_PROXY="http://all",
        no_proxy="a.example, .b.example,", SSH_AUTH_SOCK="/agent",
    )  # fmt: skip

    assert settings.proxies == ProxySettings(
        http="http://lower", https="http://all", exceptions=("a.example", ".b.example")
    )
    assert "/agent" == settings.ssh_agent


def test_secrets_are_named_and_their_commands_are_the_users_own(machine: Machine):
    machine.user('[secret_commands]\nONE = "pass show \'a b\'"\nTWO = ["cat", "x y"]\n')
    machine.local('secrets = ["TWO", "ONE", "TWO"]\n')

    settings = machine.load()

    assert ("ONE", "TWO") == settings.secrets
    expected = {"ONE": ("pass", "show", "a b"), "TWO": ("cat", "x y")}
    assert expected == settings.secret_commands


def test_a_project_cannot_run_commands_here(machine: Machine):
    file = machine.local('[secret_commands]\nONE = "true"\n')

    said = "such commands may stand in the user's own file only"
    assert [f"{file}: secret_commands.ONE: {said}"] == machine.faults()


def test_the_environment_is_not_shown_with_the_settings(machine: Machine):
    assert "hidden" not in repr(machine.load(TOKEN="hidden"))
