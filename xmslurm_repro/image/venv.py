"""What every image has of ours: folders, and around the packages a virtual environment.

``pyvenv.cfg`` beside ``bin`` is what makes Python take ``/xm/venv`` for its prefix (PEP 405);
the ``.pth`` file makes the project's own code importable.
"""

from __future__ import annotations

from io import BytesIO

from xmslurm_repro.image.layer import TreeWriter
from xmslurm_repro.image.record import sha256_line
from xmslurm_repro.image.wheel import VENV, PlannedFile
from xmslurm_repro.model.image import CODE_DIR, OUTPUTS_DIR, PYCACHE_DIR, VENV_DIR
from xmslurm_repro.model.lock import Target

PTH_NAME = "__xmslurm_code__.pth"


def venv_paths(target: Target, *, isolated: bool) -> tuple[PlannedFile, ...]:
    """Our files and links as plans, to see whether a wheel would overwrite them."""
    files = [(path, sha256_line(content)) for path, content in _files(target, isolated).items()]
    links = [(path, f"link={to}") for path, to in _links(target)]
    return tuple(
        PlannedFile(path=path, size_bytes=0, executable=False, record=record, content=b"")
        for path, record in (*files, *links)
    )


def write_skeleton(writer: TreeWriter, target: Target | None, *, isolated: bool) -> None:
    """
    Write the folders and, where the base has a Python, the virtual environment.

    Args:
        writer: Takes them.
        target: Has the Python.
        isolated: Whether the base's own packages are out of sight. They should be where a lock
            says what there is, and not where the base is the whole environment.
    """
    for folder in (CODE_DIR, OUTPUTS_DIR, PYCACHE_DIR):
        writer.directory(folder.lstrip("/").encode())
    if target is None:
        return
    for path, to in _links(target):
        writer.parents_of(path.encode())
        writer.symlink(path.encode(), to.encode())
    for path, content in _files(target, isolated).items():
        writer.parents_of(path.encode())
        writer.file(path.encode(), len(content), False, BytesIO(content))


def _has_own_python(target: Target) -> bool:
    """Whether the packages bring their Python, as those of conda do."""
    return target.python_executable.startswith(f"{VENV_DIR}/")


def _links(target: Target) -> tuple[tuple[str, str], ...]:
    if _has_own_python(target):
        return ()
    return (
        (f"{VENV}/bin/python", target.python_executable),
        (f"{VENV}/bin/python3", "python"),
        (f"{VENV}/bin/python{target.python_minor}", "python"),
    )


def _files(target: Target, isolated: bool) -> dict[str, bytes]:
    site = f"{VENV}/lib/python{target.python_minor}/site-packages"
    pth = {f"{site}/{PTH_NAME}": f"{CODE_DIR}/src\n{CODE_DIR}\n".encode()}
    if _has_own_python(target):
        return pth
    home = target.python_executable.rpartition("/")[0]
    config = (
        f"home = {home}\n"
        f"include-system-site-packages = {'false' if isolated else 'true'}\n"
        f"version = {target.python}\n"
        f"executable = {target.python_executable}\n"
    )
    return {f"{VENV}/pyvenv.cfg": config.encode(), **pth}
