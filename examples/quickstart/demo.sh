#!/usr/bin/env bash
# The main job, from nothing: launch, edit and launch again, replay, diff.
#
# Runs on a fresh Debian machine as root, which it needs only to install packages: as any other
# user it runs as well, once they are there. Everything that it makes is in one folder,
# $XMSLURM_DEMO_DIR (default: ~/.cache/xmslurm-repro-demo); delete that and it is gone.
set -euo pipefail

repository=$(cd "$(dirname "$0")/../.." && pwd)
demo=${XMSLURM_DEMO_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/xmslurm-repro-demo}
UV_VERSION=0.13.9
# Certificate authorities of this machine count, as they do for every other program on it.
export UV_SYSTEM_CERTS=${UV_SYSTEM_CERTS:-true}

bold() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] && [ -z "${NO_COLOR:-}" ] || bold() { printf '\n%s\n' "$*"; }
show() { bold "\$ $*"; "$@"; }

install_programs() {
    local missing=()
    for pair in git:git bwrap:bubblewrap mmdebstrap:mmdebstrap python3:python3; do
        command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
    done
    python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        echo "These programs are missing. Ask root to run: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    bold "Installing ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        "${missing[@]}" ca-certificates >/dev/null
}

install_xmslurm_repro() {
    local venv=$demo/venv
    if [ ! -x "$venv/bin/uv" ]; then
        python3 -m venv "$venv"
        "$venv/bin/python" -m pip install --quiet "uv==$UV_VERSION"
    fi
    UV_PROJECT_ENVIRONMENT=$venv "$venv/bin/uv" sync --quiet --locked --no-default-groups \
        --project "$repository"
    export PATH=$venv/bin:$PATH
}

make_project() {
    project=$demo/project
    rm -rf "$project"
    cp -R "$repository/examples/quickstart/project" "$project"
    cd "$project"
    git init --quiet --initial-branch=main
    git add .
    git -c user.name=Demo -c user.email=demo@example.org -c commit.gpgsign=false \
        commit --quiet --message "Two spirals"
}

latest_id() {
    xmslurm-repro list --json | python3 -c 'import json, sys; print(json.load(sys.stdin)[-1]["id"])'
}

export XMSLURM_REPRO_HOME=$demo/home
mkdir -p "$demo"
install_programs
install_xmslurm_repro
make_project

bold "A base image, made from Debian packages. No registry, no Docker."
if xmslurm-repro base list --json | grep -q '"default"'; then
    show xmslurm-repro base list
else
    show xmslurm-repro base create
fi

bold "Launch an experiment. The machine at hand is the cluster; bubblewrap is the container."
show xmslurm-repro launch --wait -- python train.py --lr 0.1
first=$(latest_id)
show xmslurm-repro logs "$first"

bold "Edit the code, commit nothing, and launch again."
show sed -i 's/^HIDDEN_UNITS = 48$/HIDDEN_UNITS = 32/' train.py
show xmslurm-repro launch --wait -- python train.py --lr 0.1
second=$(latest_id)

bold "Replay the first. Its code is no longer in the folder, which does not matter."
show xmslurm-repro replay "$first"

bold "In what do the two experiments differ?"
show xmslurm-repro diff "$first" "$second" || [ $? -eq 1 ]

bold "All that was done:"
show xmslurm-repro list
