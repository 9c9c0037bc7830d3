# What is here: the state folder, the time between the two signals, runtimes. Lines "name value".
# With "all" as the first argument every runtime is tried, else they are until one works.

all=${1-}
umask 077
mkdir -p "$xm_state" && cd "$xm_state" &&
    mkdir -p blobs/sha256 images layers roots code submit runs || fail "nothing can be written to $xm_state"
printf 'state %s\n' "$(pwd -P)"
printf 'grace %s\n' "$(scheduler_grace)"
for tool in flock sha256sum tar gzip find sort comm xargs mkfifo setsid timeout; do
    command -v "$tool" >/dev/null || printf 'missing %s\n' "$tool"
done
printf x | sha256sum -z >/dev/null 2>&1 || printf 'missing %s\n' 'coreutils 8.25 or later'

# What jobs of this site do first; a runtime may be there only afterwards.
prepare() {  # COMMANDS
    local path=$PATH
    set +u
    . /etc/profile >&2
    PATH=$PATH:$path
    eval "$1" >&2 || printf 'xmslurm: the setup of this cluster ended with exit status %s\n' "$?" >&2
    set -u
}

try() {  # NAME COMMANDS
    local out
    [[ -n ${xm_found-} && $all != all ]] && return
    if out=$(cd / && timeout 30 bash --norc --noprofile -c "$2" 2>&1); then
        printf 'runtime %s yes %s\n' "$1" "$(tail -n 1 <<<"$out")"
        xm_found=$1
    else
        printf 'runtime %s no %s\n' "$1" "$(tail -n 1 <<<"$out" | head -c 300)"
    fi
}
