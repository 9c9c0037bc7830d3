#!/usr/bin/env bash
# Everything that a change has to pass: format, lint, floors, types, tests; real servers included.
#
#   tests/run.sh [--fast] [--all-slurm] [arguments of pytest]
#
#   --fast       leaves out what starts real servers, and needs neither root nor Debian's packages
#   --all-slurm  tries the Slurm of every Debian (20.11 to the newest), not only this machine's and
#                the one that differs most; each lives in a root of its own, which mmdebstrap makes
#                in 15 s and which is kept in $XMSLURM_TEST_ROOTS, by default below ~/.cache
#
# Without it, it has to be root on Debian 12 or like it: what is missing is installed with apt-get.
# The Python environment is .venv, or $UV_PROJECT_ENVIRONMENT.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(
  # a Slurm of several nodes, with accounting
  slurmctld slurmd slurm-client slurmdbd slurm-wlm-mysql-plugin munge
  mariadb-server-core mariadb-client-core
  # a login node, and login shells that take words otherwise than sh
  openssh-server openssh-client tcsh fish
  # images: a base, a registry, the runtimes that take them
  mmdebstrap docker-registry apache2-utils skopeo umoci
  bubblewrap charliecloud docker.io podman runc uidmap squashfs-tools
  # a disk that loses power
  e2fsprogs mount
  bubblewrap charliecloud docker.io podman runc uidmap
  # a laptop whose clock is wrong
  faketime
  # locks of system packages: signatures, and what is opened
  gpgv strace
  # an engine that unpacks images as anyone: ch-image
  charliecloud-builders
  # a judge of reproducible builds
  diffoscope-minimal
  # peers that we compare ourselves with
  b3sum git openssl rsync zstd
  # for uv
  ca-certificates python3-venv
)

say() { printf '\n\033[1m%s\033[0m\n' "$*" >&2; }

install_packages() {
  local missing=() package guard=/usr/sbin/policy-rc.d
  for package in "${packages[@]}"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
      missing+=("$package")
  done
  [ "${#missing[@]}" -gt 0 ] || return 0
  say "apt-get install ${missing[*]}"
  if [ "$(id -u)" != 0 ]; then
    echo "not root: install them, or run with --fast" >&2
    return 1
  fi
  if [ ! -e "$guard" ]; then
    # No server of a package starts by itself; the tests start their own.
    printf '#!/bin/sh\nexit 101\n' >"$guard"
    chmod +x "$guard"
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
  fi
  export DEBIAN_FRONTEND=noninteractive
  apt-get -qq -o DPkg::Lock::Timeout=300 update
  apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 -y --no-install-recommends \
    install "${missing[@]}" >/dev/null
}

# The version of uv that the lock file names, in a folder of its own, unless one is there.
find_uv() {
  command -v uv && return
  local version home
  version=$(sed -n '/^name = "uv"$/{n;s/^version = "\(.*\)"$/\1/p}' uv.lock)
  home=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/xmslurm-repro/uv-$version
  if [ ! -x "$home/bin/uv" ]; then
    python3 -m venv "$home" >&2
    "$home/bin/pip" -q --disable-pip-version-check install "uv==$version" >&2
  fi
  echo "$home/bin/uv"
}

fast=
if [ "${1-}" = --fast ]; then
  fast=1
  shift
fi

[ -n "$fast" ] || install_packages
uv=$(find_uv)
# Tests ask uv what it would do; last, so that nothing else changes.
PATH=$PATH:$(dirname "$uv")
export PATH

# Certificates as the system trusts them, which matters behind a proxy.
export UV_SYSTEM_CERTS=${UV_SYSTEM_CERTS-true}
say "uv sync"
# Certificate authorities of this machine count, as they do for every other program on it.
export UV_SYSTEM_CERTS=${UV_SYSTEM_CERTS:-true}
"$uv" sync --quiet --locked --group dev
bin=${UV_PROJECT_ENVIRONMENT:-.venv}/bin

say "format, lint, floors, types"
"$bin/ruff" format --check --quiet
"$bin/ruff" check --quiet
"$bin/lint-imports" --no-cache >/dev/null || "$bin/lint-imports" --no-cache
"$bin/mypy"

# A test that hangs says where, and ends the run.
hang=(-o faulthandler_timeout=300 -o faulthandler_exit_on_timeout=true)

if [ -n "$fast" ]; then
  say "pytest, without real servers"
  exec "$bin/python" -m pytest -q "${hang[@]}" --durations=10 -m "not real" "$@"
fi

say "pytest"
"$bin/coverage" erase
printed=$(mktemp)
status=0
"$bin/coverage" run -m pytest -q "${hang[@]}" --durations=25 "$@" | tee "$printed" || status=$?
say "coverage"
"$bin/coverage" combine --quiet
"$bin/coverage" report | tail -n 1
tail -n 1 "$printed"
rm -f "$printed"
exit "$status"
