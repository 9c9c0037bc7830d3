# charliecloud on unpacked trees. By itself it leaves the network, the processes, the devices and
# every bind of the node open: it is started in namespaces of ours that are closed already.

xm_runtime_version() { USER=x ch-run --version 2>&1 | sed 's/^/charliecloud /'; }

xm_prepare() {
    command -v ch-run >/dev/null || xm_finish failed '' 'charliecloud (ch-run) is not on this node'
    command -v unshare >/dev/null || xm_finish failed '' 'util-linux (unshare) is not on this node'
    xm_have_trees
    xm_uid=$UID xm_gid=$(id -g) xm_more=()
    USER=x ch-run --help 2>&1 | grep -q -e '--home ' || xm_more=(--no-home)
    xm_inside="$(declare -f xm_close); xm_close \"\$@\""
    mkdir "$xm_local/dev" "$xm_local/sys" "$xm_local/driver"
    : >"$xm_local/devices" && : >"$xm_local/libraries" && : >"$xm_local/closed"
    ((xm_gpus)) || return 0
    xm_gpu_devices >"$xm_local/devices"
    xm_driver_libraries >"$xm_local/libraries"
    [[ -s $xm_local/libraries ]] || return 0
    xm_more+=("--bind=$xm_local/driver:/xm/driver")
    xm_add_library_path /xm/driver
}

# Runs as the first process of its namespaces, with what it needs as arguments, then COMMAND.
xm_close() {  # LOCAL ROOT CODE NETWORK COMMAND...
    local local=$1 root=$2 code=$3 network=$4 dev=$1/dev device name path
    shift 4
    set -e
    hostname xm
    mount -n -t proc proc /proc
    mount -n -t tmpfs -o mode=755 tmpfs "$dev"
    mkdir "$dev/pts" "$dev/shm"
    mount -n -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts "$dev/pts"
    mount -n -t tmpfs -o mode=1777 tmpfs "$dev/shm"
    ln -s pts/ptmx "$dev/ptmx"
    ln -s /proc/self/fd "$dev/fd"
    for name in stdin:0 stdout:1 stderr:2; do ln -s "/proc/self/fd/${name#*:}" "$dev/${name%:*}"; done
    for device in /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty; do
        : >"$dev/${device#/dev/}" && mount -n --bind "$device" "$dev/${device#/dev/}"
    done
    while read -r device; do
        if [[ -d $device ]]; then mkdir -p "$dev/${device#/dev/}"; else : >"$dev/${device#/dev/}"; fi
        mount -n --rbind "$device" "$dev/${device#/dev/}"
    done <"$local/devices"
    # How many processors there are and how memory is near them; no more of the node.
    mount -n -t tmpfs -o mode=755 tmpfs "$local/sys"
    mkdir -p "$local/sys/devices/system"
    mount -n --rbind /sys/devices/system "$local/sys/devices/system"
    mount -n -o remount,bind,ro "$local/sys"
    while read -r name path; do
        : >"$local/driver/$name" && mount -n --bind "$path" "$local/driver/$name"
        mount -n -o remount,bind,ro "$local/driver/$name"
    done <"$local/libraries"
    # Binds of charliecloud can be written to unless they are closed already.
    while read -r path; do
        path=$(realpath -e "$path")
        mount -n --bind "$path" "$path"
        mount -n -o remount,bind,ro "$path"
    done < <([[ -z $code ]] || printf '%s\n' "$code"; cat "$local/closed")
    if [[ $network != host ]]; then
        for path in /etc/hosts /etc/resolv.conf; do
            [[ ! -f $root$path ]] || mount -n --bind "$root$path" "$path"
        done
    fi
    mount -n --move "$dev" /dev
    mount -n --move "$local/sys" /sys
    printf 'ready\n' >&3
    # A shell says on its error output how a command was killed; what the command says goes on.
    exec 3>&- 4>&2 2>/dev/null
    set +e
    "$@" 2>&4 4>&-
    exit
}

xm_bind() {
    printf '%s\n' "$1" >>"$xm_local/closed"
    xm_more+=("--bind=$1:$2")
}

# The process that we see waits for the shell inside, whose child is the command.
xm_forward() {
    local first pid
    for first in $(xm_children "$xm_container"); do
        for pid in $(xm_children "$first"); do kill -"$1" "$pid" 2>/dev/null; done
    done
}

xm_has_started() {
    grep -q ready "$xm_local/status" || return 1
    (($1 > 128)) || [[ $(tail -n 1 "$xm_dir/log") != ch-run*': error: '* ]]
}

xm_guard() { xm_guard_group; }

xm_unguard() { xm_unguard_group; }

xm_outlast() { return "$1"; }

xm_kill() { kill -KILL -- "-$xm_container" 2>/dev/null; }
