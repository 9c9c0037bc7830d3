"""
Other Debians beside this one, for the Slurm that each of them has.

A root is made once by mmdebstrap, without running any script of a package (15 s, 170 MB), and kept
in a cache folder; a test bed sees it read-only, with a few files of its own on top.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import pwd
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.testbed.processes import program

SUITES = ("bullseye", "bookworm", "trixie", "sid")
"""Slurm 20.11, 22.05, 24.11, and what is newest."""

_PACKAGES = (
    "base-files base-passwd bash bubblewrap coreutils dash diffutils findutils grep gzip hostname "
    "libc-bin login mawk mount munge openssh-client openssh-server passwd procps sed slurm-client "
    "slurm-wlm-basic-plugins slurmctld slurmd slurmdbd tar util-linux"
)
# Since Debian 12 a package of its own.
_MORE = {"bullseye": ""}
_MORE_OTHERWISE = "slurm-wlm-mysql-plugin"

# The security archive of a release that has ended loses files that its lists still name.
_MAIN_ONLY = """\
mkdir -p "$1/etc/apt/preferences.d"
printf 'Package: *\\nPin: release l=Debian-Security\\nPin-Priority: -1\\n' \\
    >"$1/etc/apt/preferences.d/main-only"
"""

# What scripts of packages would have done, as far as it matters here.
_FINISH = """\
set -e
cd "$1"
for program in usr/bin/*-wlm usr/sbin/*-wlm; do
    [ ! -e "$program" ] || ln -sf "${program##*/}" "${program%-wlm}"
done
ln -sf mawk usr/bin/awk
[ -e bin/sh ] || ln -s dash bin/sh
chroot . ldconfig
mkdir -p run/sshd home tmp proc sys dev var/empty
for name in passwd group; do
    [ -e "etc/$name" ] || cp "usr/share/base-passwd/$name.master" "etc/$name"
done
[ -e etc/nsswitch.conf ] || printf 'passwd: files\\ngroup: files\\nhosts: files\\n' >etc/nsswitch.conf
[ -e etc/shadow ] || touch etc/shadow
for name in hosts subuid subgid; do : >>"etc/$name"; done
grep -q ^sshd: etc/passwd || echo 'sshd:x:64900:65534::/run/sshd:/usr/sbin/nologin' >>etc/passwd
rm -rf var/cache/apt/archives var/lib/apt/lists usr/share/doc usr/share/man usr/share/locale
"""


def other_suites(*, every: bool) -> tuple[str, ...]:
    """Debians with another Slurm than this machine's: the one that differs most, or all."""
    here = platform.freedesktop_os_release().get("VERSION_CODENAME")
    others = tuple(suite for suite in SUITES if suite != here)
    return others if every else others[-1:]


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Where roots are kept: `XMSLURM_TEST_ROOTS`, else below the user's cache folder."""
    told = environ.get("XMSLURM_TEST_ROOTS")
    if told:
        return Path(told)
    cache = environ.get("XDG_CACHE_HOME") or f"{environ.get('HOME') or '/root'}/.cache"
    return Path(cache) / "xmslurm-repro" / "test-roots"


def debian_root(suite: str, cache: Path) -> Path:
    """The root of *suite*, made now unless it is there. Roots of older recipes are removed."""
    packages = f"{_PACKAGES} {_MORE.get(suite, _MORE_OTHERWISE)}".split()
    recipe = "\0".join([suite, *packages, _MAIN_ONLY, _FINISH])
    root = cache / f"{suite}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{suite}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.is_dir():
            for old in cache.glob(f"{suite}-*"):
                shutil.rmtree(old)
            _make(suite, packages, root)
    return root


def _make(suite: str, packages: list[str], root: Path) -> None:
    new = root.with_name(f"{root.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    words = [
        program("mmdebstrap"),
        "--quiet",
        "--variant=extract",
        f"--include={','.join(packages)}",
    ]
    words += ['--aptopt=Acquire::Check-Valid-Until "false"']
    words += ['--aptopt=APT::Install-Recommends "false"', f"--setup-hook={_MAIN_ONLY}"]
    done = subprocess.run(
        [*words, suite, str(new)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode == 0:
        finish = ["bash", "-c", _FINISH, "finish", str(new)]
        done = subprocess.run(finish, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        shutil.rmtree(new, ignore_errors=True)
        raise RuntimeError(f"a root of {suite} cannot be made:\n{done.stderr[-3000:]}")
    new.rename(root)


def root_keeper(root: Path, bed: Path, homes: Mapping[str, Path]) -> list[str]:
    """
    A command that makes a mount namespace whose root is *root*, and keeps it.

    In it are this machine's ``/proc``, ``/sys``, ``/dev`` and folder of temporary files (where
    *bed* is), the users, and *homes* as theirs. All else is read-only but ``/run``.
    It writes ``namespace.ready`` when the namespace can be entered.
    """
    own = _own_files(root, bed, homes)
    q = shlex.quote
    lines = ["set -e", f"mount --bind {q(str(root))} {q(str(root))}", f"cd {q(str(root))}"]
    for folder in ("/proc", "/sys", "/dev", tempfile.gettempdir()):
        lines += [f"mkdir -p .{q(folder)}", f"mount --rbind {q(folder)} .{q(folder)}"]
    lines += ["mount -t tmpfs tmpfs run", "mkdir -p run/sshd", "mount -t tmpfs tmpfs home"]
    for name, home in sorted(homes.items()):
        place = pwd.getpwnam(name).pw_dir.lstrip("/")
        lines += [f"mkdir -p {q(place)}", f"mount --bind {q(str(home))} {q(place)}"]
    lines += [f"mount --bind {q(str(path))} etc/{path.name}" for path in own]
    lines += ["mount -o remount,bind,ro .", "mkdir run/old", "pivot_root . run/old"]
    lines += ["cd /", "umount -l /run/old", f"touch {q(str(bed))}/namespace.ready"]
    lines += ["exec sleep infinity"]
    return [
        *(program("unshare"), "--mount", "--propagation", "private"),
        *("bash", "-c", "\n".join(lines)),
    ]


def _own_files(root: Path, bed: Path, homes: Mapping[str, Path]) -> list[Path]:
    """The root's lists of users, with ours among them."""
    folder = bed / "root-etc"
    folder.mkdir()
    written = []
    for name in ("passwd", "group", "shadow", "subuid", "subgid"):
        text = (root / "etc" / name).read_text()
        here = Path("/etc") / name
        lines = here.read_text().splitlines() if here.exists() else []
        text += "".join(f"{line}\n" for line in lines if line.partition(":")[0] in homes)
        path = folder / name
        path.write_text(text)
        path.chmod(0o640 if name == "shadow" else 0o644)
        written.append(path)
    hosts = folder / "hosts"
    hosts.write_text(f"127.0.0.1 localhost {os.uname().nodename}\n")
    return [*written, hosts]
