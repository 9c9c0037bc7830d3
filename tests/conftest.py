"""
What every test gets: golden files, real servers, and a check that it leaves no trace here.

What the servers can do stands in `tests/testbed/bed.py`.
"""

from __future__ import annotations

import difflib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.docker_engine import engine_for
from tests.testbed.bed import Parts, Testbed, start_testbed
from tests.testbed.roots import other_suites

GOLDEN = Path(__file__).parent / "golden"

Golden = Callable[[str, "str | bytes"], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write what the tests made over the files in tests/golden; read the diff!",
    )
    parser.addoption(
        "--all-slurm",
        action="store_true",
        help="run tests marked every_slurm on the Slurm of every Debian, not of two only",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """
    Tests marked `every_slurm` run on this machine's Slurm, and on that of other Debians; those
    that take their time, ``by_default=False``, only where every Slurm is asked for.
    """
    marked = metafunc.definition.get_closest_marker("every_slurm")
    if marked is not None and "testbed" in metafunc.fixturenames:
        every = metafunc.config.getoption("--all-slurm")
        others = every or marked.kwargs.get("by_default", True)
        suites = [None, *(other_suites(every=every) if others else ())]
        ids = [suite or "host" for suite in suites]
        metafunc.parametrize("testbed", suites, ids=ids, indirect=True, scope="session")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """``golden(name, actual)``: *actual* is what stands in tests/golden/*name*, to the byte."""

    def check(name: str, actual: str | bytes) -> None:
        path = GOLDEN / name
        got = actual.encode() if isinstance(actual, str) else actual
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(got)
            return
        if not path.exists():
            pytest.fail(f"there is no tests/golden/{name}: run with --update-golden and read it")
        want = path.read_bytes()
        if want != got:
            pytest.fail(f"differs from tests/golden/{name}:\n{_difference(want, got)}")

    return check


def _difference(want: bytes, got: bytes) -> str:
    try:
        lines = [want.decode().splitlines(), got.decode().splitlines()]
    except UnicodeDecodeError:
        at = next((i for i, (a, b) in enumerate(zip(want, got, strict=False)) if a != b), -1)
        return f"{len(want)} and {len(got)} bytes, first different at {at}"
    shown = "\n".join(difflib.unified_diff(*lines, "golden", "got", lineterm=""))
    return shown or "only in line ends"


@pytest.fixture(scope="session", autouse=True)
def _clean_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What this shell happens to have set must decide no test."""
    ours = ("XMSLURM_", "XM_SLURM_", "SLURM_", "SBATCH_", "SALLOC_", "SQUEUE_", "SACCT_")
    git = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_AUTHOR_", "GIT_COMMITTER_")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith((*ours, *git))]:
            patch.delenv(name)
        for name in ("SSH_AUTH_SOCK", "PYTHONHASHSEED", "SOURCE_DATE_EPOCH", "TZ", "COLUMNS"):
            patch.delenv(name, raising=False)
        # A test that forgets to say where must not find, or spoil, what this user keeps.
        nowhere = tmp_path_factory.mktemp("nowhere")
        patch.setenv("XMSLURM_REPRO_HOME", str(nowhere / "home"))
        patch.setenv("DOCKER_CONFIG", str(nowhere / "docker"))
        patch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        patch.setenv("LC_ALL", "C.UTF-8")
        # Whoever starts us in the background may have these ignored, for us and all we start.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        old_mask = os.umask(0o022)
        yield
        os.umask(old_mask)


@pytest.fixture(autouse=True)
def _leaves_no_trace() -> Iterator[None]:
    """A test that changes the environment, the folder or the umask has to change it back."""
    environment, folder, mask = dict(os.environ), os.getcwd(), _umask()
    yield
    changed = dict(os.environ).items() ^ environment.items()
    names = sorted({name for name, _ in changed} - {"PYTEST_CURRENT_TEST"})
    assert not names, f"the test left these environment variables changed: {names}"
    assert folder == os.getcwd(), "the test left another current directory"
    assert mask == _umask(), "the test left another umask"


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


TestbedOf = Callable[["str | None"], Testbed]


@pytest.fixture(scope="session")
def testbed_of() -> Iterator[TestbedOf]:
    """``testbed_of(suite)``: a test bed with that Debian's Slurm; ``None`` for this machine's."""
    started: dict[str | None, Testbed] = {}

    def bed_of(suite: str | None) -> Testbed:
        if suite not in started:
            started[suite] = start_testbed(Parts(suite=suite))
        return started[suite]

    yield bed_of
    for bed in started.values():
        bed.stop()


@pytest.fixture(scope="session")
def testbed(request: pytest.FixtureRequest, testbed_of: TestbedOf) -> Testbed:
    """
    Slurm with accounting, a login node and a registry. For tests marked `real`.

    The servers are shared by all tests: one that stops a server starts it again, and ends its
    jobs. What users keep in their homes stays, so use folders with names of your own.
    """
    return testbed_of(getattr(request, "param", None))


@pytest.fixture(scope="session")
def docker_engine(testbed: Testbed) -> Iterator[str]:
    """A Docker engine on the nodes, whose socket belongs to the user's group; its URL."""
    with engine_for(testbed, group=testbed.ssh_user) as url:
        yield url


@pytest.fixture(scope="session")
def testbed_without_accounting() -> Iterator[Testbed]:
    """A second, small Slurm as sites without slurmdbd have it: sacct answers nothing."""
    bed = start_testbed(Parts(accounting=False, registry=False, nodes=2, enforce_memory=True))
    yield bed
    bed.stop()
