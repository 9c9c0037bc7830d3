# podman: its own store on the node, filled from the blobs or a registry, by digest.

xm_runtime_version() { podman --version; }

xm_prepare() {
    command -v podman >/dev/null || xm_finish failed '' 'podman is not on this node'
    xm_make_store
    xm_podman=(podman --root "$xm_store/root" --runroot "$xm_podman_run/run" --storage-driver overlay
        --cgroup-manager cgroupfs "${xm_podman_options[@]}")
    # crun refuses hosts that have both versions of cgroups.
    if [[ $(stat -f -c %T /sys/fs/cgroup) != cgroup2fs && " ${xm_podman_options[*]} " != *' --runtime '* ]] &&
        command -v runc >/dev/null; then
        xm_podman+=(--runtime runc)
    fi
    xm_engine=("${xm_podman[@]}") xm_engine_end=(kill -s KILL)
    xm_user=() xm_more=()
    ((UID)) && xm_user=(--userns=keep-id)
    xm_limit_podman
    xm_find_init && xm_more+=(--init "--init-path=$xm_init")
    xm_image_id=${xm_config#sha256:}
    xm_name=xm-$xm_token-$xm_task-${xm_attempt/+/_}${xm_rank:+-$xm_rank}
    if ! "${xm_podman[@]}" image exists "$xm_image_id" 2>/dev/null; then
        xm_alone "$xm_store.lock" xm_pull 2>"$xm_local/why" >&2 || xm_refuse_load podman
    fi
    found=$("${xm_podman[@]}" image inspect --format '{{.Id}} {{.Digest}}' "$xm_image_id" 2>"$xm_local/why") ||
        xm_refuse "podman has loaded another image than $xm_image: $(tail -n 1 "$xm_local/why" | head -c 500)"
    [[ $found == "$xm_image_id $xm_image" ]] || xm_refuse "podman has loaded $found instead of $xm_image_id $xm_image"
    xm_attested=$xm_image
}

# A store for this node and user, if one can be kept.
xm_make_store() {
    local boot mounts sum
    # Its notion of what runs must not outlive a reboot, as files in /tmp may. And without root it
    # goes on in the mount namespace of a process that it left behind, which must be ours.
    read -r boot </proc/sys/kernel/random/boot_id
    mounts=$(readlink /proc/self/ns/mnt)
    xm_store=$xm_node/podman-${boot%%-*}-${mounts//[!0-9]/}
    # podman takes no more than 50 characters for this folder, and the store is tied to it.
    sum=$(sha256sum <<<"$xm_store")
    xm_podman_run=/tmp/xmslurm-$UID-${sum:0:8}
    mkdir -m 700 "$xm_podman_run" 2>/dev/null
    [[ ! -L $xm_podman_run && -O $xm_podman_run ]] || xm_finish failed '' "$xm_podman_run belongs to somebody else"
    export XDG_RUNTIME_DIR=$xm_podman_run/xdg
    mkdir -p "$xm_store" "$XDG_RUNTIME_DIR" && chmod 700 "$XDG_RUNTIME_DIR" "$xm_podman_run" ||
        xm_finish failed '' "nothing can be written to $xm_store"
    ((UID == 0)) || xm_alone "$xm_podman_run/lock" xm_have_namespace "$XDG_RUNTIME_DIR/libpod/tmp/pause.pid"
}

# Without root, podman keeps a process that holds its view of the file system from job to job. What
# was mounted since, or is this job's alone, is not in it. If that process is gone, podman looks for
# another among the containers that it remembers, and gives up where those were killed with their
# jobs. So it gets its process by way of a store that remembers nothing.
xm_have_namespace() {
    local pid
    if [[ -r $1 ]]; then
        pid=$(<"$1")
        [[ /proc/$pid/root$xm_outputs -ef $xm_outputs && /proc/$pid/root$xm_local -ef $xm_local ]] && return 0
        [[ $(readlink "/proc/$pid/exe") == */podman ]] && kill "$pid" 2>/dev/null
        rm -f "$1"
    fi
    rm -rf "$xm_podman_run/empty"
    podman --root "$xm_podman_run/empty/root" --runroot "$xm_podman_run/empty/run" --storage-driver overlay \
        --cgroup-manager cgroupfs unshare true 8>&- 9>&- >/dev/null 2>&1
}

xm_pull() {
    local hex=${xm_image#sha256:} from how=()
    "${xm_podman[@]}" image exists "$xm_image_id" && return
    # podman makes a name of the path, and not every path is one.
    mkdir -p "$xm_podman_run/images" && ln -sfn "$xm_state/images/$hex" "$xm_podman_run/images/$hex"
    from=oci:$xm_podman_run/images/$hex
    if [[ -z ${xm_registry-} ]]; then
        xm_verify_blobs || return
    else
        from=docker://$xm_registry@$xm_image
        ((xm_registry_is_insecure)) && how=(--tls-verify=false)
    fi
    "${xm_podman[@]}" pull -q "${how[@]}" "$from" 8>&- 9>&-
}

# Who waits for what the command leaves behind, and is killed by signals that it does not know: the
# first process of a container is not. It is no part of podman.
xm_find_init() {
    local init
    for init in /usr/libexec/podman/catatonit /usr/lib/podman/catatonit catatonit docker-init tini-static; do
        xm_init=$(command -v "$init") && xm_init=$(realpath -e -- "$xm_init") && return 0
    done
    return 1
}

# podman asks for more than it may have where root lacks CAP_SYS_RESOURCE; 32768 processes are what
# it leaves itself.
xm_limit_podman() {
    local files processes
    files=$(ulimit -Hn) processes=$(ulimit -Hu)
    [[ $files == unlimited ]] || ((files > 1048576)) && files=1048576
    [[ $processes == unlimited ]] || ((processes > 32768)) && processes=32768
    xm_limits=(--ulimit "nofile=$files:$files" --ulimit "nproc=$processes:$processes" --ulimit core=0:0)
}

xm_bind() { xm_more+=(--mount "type=bind,src=$1,dst=$2,ro"); }

# 125 is podman's own trouble. 126 and 127 are the runtime's, but also those of `env`, which says
# so in other words.
xm_has_started() {
    (($1 == 125)) && return 1
    (($1 == 126 || $1 == 127)) && [[ $(tail -n 1 "$xm_dir/log") == 'Error: '* ]] && return 1
    return 0
}
