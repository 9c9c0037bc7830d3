"""Building a source distribution into a wheel, once, in the image it is for.

The build backend (PEP 517) runs in a sandbox of bubblewrap: the base image, read-only; the tools
that it asked for, by hash; no network, no home, no variable of this machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from xmslurm_repro.errors import ImageError, NoRuntimeError
from xmslurm_repro.image.cache import DocumentCache
from xmslurm_repro.image.unpack import remove_tree, unpacked
from xmslurm_repro.image.wheel import VENV, WheelError, plan_wheel
from xmslurm_repro.model.image import VENV_DIR, Image
from xmslurm_repro.model.lock import Artifact, Built, Target
from xmslurm_repro.ports.images import WheelNeeds
from xmslurm_repro.ports.store import BlobStore

_KIND = "built"
_TIMEOUT_SECONDS = 3600
_SHOWN_LINES = 30
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
_DEFAULT_REQUIRES = ("setuptools>=40.8.0",)
_DEFAULT_BACKEND = "setuptools.build_meta:__legacy__"
"""What PEP 517 means where a project says nothing."""

_ENVIRONMENT = {
    "PATH": f"{VENV_DIR}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "VIRTUAL_ENV": VENV_DIR,
    "HOME": "/tmp",  # noqa: S108 (in the sandbox)
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "SOURCE_DATE_EPOCH": "315532800",
}

_RUNNER = """
import importlib, json, os, sys
backend, paths, step = json.loads(sys.argv[1])
sys.path[:0] = [os.path.join(os.getcwd(), path) for path in paths]
module, _, attribute = backend.partition(":")
hooks = importlib.import_module(module)
for name in attribute.split(".") if attribute else ():
    hooks = getattr(hooks, name)
if step == "requires":
    ask = getattr(hooks, "get_requires_for_build_wheel", None)
    answer = list(ask({})) if ask else []
else:
    answer = hooks.build_wheel("/build/out", {})
with open("/build/answer.json", "w") as file:
    json.dump(answer, file)
"""


class WheelMaker:
    """Builds wheels, and remembers which one came of what."""

    def __init__(self, blobs: BlobStore, cache_dir: Path) -> None:
        """Read and keep files in *blobs*; unpack and remember below *cache_dir*."""
        self._blobs, self._folder = blobs, cache_dir
        self._cache = DocumentCache(cache_dir)

    def known(self, sdist: Artifact, image: Image, target: Target) -> Artifact | None:
        """The wheel that was built of *sdist* in *image* before, if it is still here."""
        found = self._cache.get(_KIND, _key(sdist, image, target))
        wheel = Artifact.from_json(found) if found else None
        return wheel if wheel and self._blobs.has(wheel.sha256) else None

    def requires(self, sdist: Artifact) -> tuple[str, ...]:
        """
        What *sdist*, which is in the store, says that it needs to be built.

        Raises:
            ImageError: If it cannot be read.
        """
        with tempfile.TemporaryDirectory(prefix="xmslurm-build-") as place:
            return _requires(_build_system(self._sources(sdist, Path(place))))

    def build(
        self, sdist: Artifact, image: Image, target: Target, tools: Sequence[Artifact]
    ) -> Artifact | WheelNeeds:
        """
        Build *sdist* with *tools*, all in the store; or say what the backend wants as well.

        Raises:
            ImageError: If it fails; with what it printed.
            NoRuntimeError: If there is no sandbox, or *image* is for another machine.
        """
        _demand_sandbox(image)
        root = unpacked(self._blobs, image.layers, self._folder / "roots" / image.config.digest.hex)
        place = Path(tempfile.mkdtemp(prefix="build-", dir=self._folder))
        try:
            venv, work = place / "venv", place / "build"
            (work / "out").mkdir(parents=True)
            self._install(tools, venv, target)
            sources = self._sources(sdist, work)
            system = _build_system(sources)
            run = _Run(root=root, venv=venv, work=work, sources=sources, sdist=sdist)
            wanted = run.step(system, "requires")
            missing = tuple(sorted(set(wanted) - set(_requires(system))))
            if missing and not _has(tools, missing):
                return WheelNeeds(requires=(*_requires(system), *missing))
            filename = str(run.step(system, "wheel"))
            wheel = self._keep(work / "out" / filename, sdist, tools)
        finally:
            remove_tree(place)
        self._cache.put(_KIND, _key(sdist, image, target), wheel.to_json())
        return wheel

    def _sources(self, sdist: Artifact, place: Path) -> Path:
        """Unpack the source distribution; return the one folder that is in it."""
        target = place / "sources"
        try:
            with self._blobs.open(sdist.sha256) as stream:
                _extract(stream, sdist.filename, target)
        except (tarfile.TarError, zipfile.BadZipFile, OSError, EOFError, ValueError) as error:
            raise ImageError(f"{sdist.filename} cannot be unpacked: {error}") from error
        inside = sorted(entry.path for entry in os.scandir(target) if entry.is_dir())
        if len(inside) != 1:
            raise ImageError(f"{sdist.filename} has {len(inside)} folders instead of one")
        return Path(inside[0])

    def _install(self, tools: Sequence[Artifact], venv: Path, target: Target) -> None:
        (venv / "bin").mkdir(parents=True)
        for name in ("python", "python3", f"python{target.python_minor}"):
            (venv / "bin" / name).symlink_to(target.python_executable)
        home = target.python_executable.rpartition("/")[0]
        text = f"home = {home}\ninclude-system-site-packages = false\nversion = {target.python}\n"
        (venv / "pyvenv.cfg").write_text(text)
        for tool in tools:
            with self._blobs.open(tool.sha256) as stream:
                try:
                    plan = plan_wheel(stream, target.python_minor)
                except WheelError as error:
                    raise ImageError(f"{tool.filename}: {error}") from error
                if plan.problems:
                    raise ImageError(f"{tool.filename} is broken", details=plan.problems)
                archive = zipfile.ZipFile(stream)
                for file in plan.files:
                    place = venv / file.path.removeprefix(f"{VENV}/")
                    place.parent.mkdir(parents=True, exist_ok=True)
                    content = file.content
                    place.write_bytes(
                        content if isinstance(content, bytes) else archive.read(content)
                    )
                    place.chmod(0o755 if file.executable else 0o644)

    def _keep(self, path: Path, sdist: Artifact, tools: Sequence[Artifact]) -> Artifact:
        try:
            name, version, *_ = parse_wheel_filename(path.name)
            data = path.read_bytes()
        except (InvalidWheelFilename, OSError) as error:
            raise ImageError(f"{sdist.filename} was built into no wheel: {error}") from error
        if name != sdist.name:
            raise ImageError(f"{sdist.filename} was built into {path.name}, another package")
        return Artifact(
            name=sdist.name,
            version=str(version),
            filename=path.name,
            sha256=self._blobs.put(data),
            size_bytes=len(data),
            built=Built(
                filename=sdist.filename,
                sha256=sdist.sha256,
                tools=tuple(sorted(f"{one.name} {one.version}" for one in tools)),
            ),
        )


class _Run:
    """One build: the sandbox and what is in it."""

    def __init__(
        self, *, root: Path, venv: Path, work: Path, sources: Path, sdist: Artifact
    ) -> None:
        self._root, self._venv, self._work = root, venv, work
        self._sources, self._sdist = sources, sdist
        (work / "run.py").write_text(_RUNNER)

    def step(self, system: Mapping[str, Any], step: str) -> Any:
        """Call one hook of the backend; what it answers."""
        backend = system.get("build-backend", _DEFAULT_BACKEND)
        paths = system.get("backend-path", [] if "build-backend" in system else ["."])
        said = json.dumps([backend, paths, step])  # noqa: TID251 (an argument, not kept)
        done = subprocess.run(
            [*self._sandbox(), f"{VENV_DIR}/bin/python", "/build/run.py", said],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
        answer = self._work / "answer.json"
        if done.returncode != 0 or not answer.is_file():
            lines = done.stdout.decode(errors="replace").splitlines()
            raise ImageError(
                f"{self._sdist.filename} cannot be built in the base image",
                hint="If a compiler or a library is missing, make a base image that has it: "
                "`xmslurm-repro base create --package gcc --package python3-dev`.",
                details=[f"exit status {done.returncode}", *lines[-_SHOWN_LINES:]],
            )
        return json.loads(answer.read_bytes())

    def _sandbox(self) -> list[str]:
        # A venv needs its folder to be there; the image's own is below it and out of sight.
        words = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--clearenv"]
        words += ["--ro-bind", str(self._root), "/", "--proc", "/proc", "--dev", "/dev"]
        words += ["--tmpfs", "/tmp", "--bind", str(self._work), "/build"]  # noqa: S108
        words += ["--ro-bind", str(self._venv), VENV_DIR]
        for name, value in sorted(_ENVIRONMENT.items()):
            words += ["--setenv", name, value]
        inside = Path("/build") / self._sources.relative_to(self._work)
        return [*words, "--chdir", str(inside)]


def _demand_sandbox(image: Image) -> None:
    here = _MACHINES.get(platform.machine(), platform.machine())
    if image.architecture != here:
        raise NoRuntimeError(
            f"a base image for {image.architecture} cannot run on this machine, which is {here}",
            hint="Build source distributions on a machine of that kind, or lock wheels.",
        )
    if shutil.which("bwrap") is None:
        raise NoRuntimeError(
            "source distributions are built in a sandbox of bubblewrap, which is not here",
            hint="Install bubblewrap (`apt-get install bubblewrap`).",
        )


def _extract(stream: Any, filename: str, target: Path) -> None:
    target.mkdir()
    if filename.endswith(".zip"):
        with zipfile.ZipFile(stream) as archive:
            archive.extractall(target)  # noqa: S202 (zipfile keeps inside)
        return
    with tarfile.TarFile.open(fileobj=stream, mode="r:*") as tar:
        for member in tar:
            parts = member.name.split("/")
            if member.name.startswith("/") or ".." in parts:
                raise ValueError(f"{member.name!r} leads out of it")
            if member.isdir() or member.isreg():
                # Newer Pythons ask which filter; modes and plain files are all that is wanted.
                tar.extract(_as_ours(member), target)


def _as_ours(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """*member* as a file of the one who unpacks it."""
    member.uid, member.gid, member.uname, member.gname = os.getuid(), os.getgid(), "", ""
    member.mode = 0o755 if member.isdir() or member.mode & 0o111 else 0o644
    return member


def _build_system(sources: Path) -> Mapping[str, Any]:
    path = sources / "pyproject.toml"
    try:
        system = tomllib.loads(path.read_text("utf-8")).get("build-system") if path.exists() else {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ImageError(f"{sources.name}/pyproject.toml: not TOML: {error}") from error
    return system if isinstance(system, dict) else {}


def _requires(system: Mapping[str, Any]) -> tuple[str, ...]:
    found = system.get("requires", _DEFAULT_REQUIRES)
    return tuple(map(str, found)) if isinstance(found, list | tuple) else _DEFAULT_REQUIRES


def _has(tools: Sequence[Artifact], missing: Sequence[str]) -> bool:
    names = {tool.name for tool in tools}
    try:
        return all(canonicalize_name(Requirement(text).name) in names for text in missing)
    except InvalidRequirement as error:
        raise ImageError(f"a build backend asks for what is no requirement: {error}") from error


def _key(sdist: Artifact, image: Image, target: Target) -> str:
    named = f"{sdist.sha256}\n{image.config.digest}\n{target.python}\n{target.architecture}\n"
    return hashlib.sha256(named.encode()).hexdigest()
