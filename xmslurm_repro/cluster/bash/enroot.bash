# enroot on unpacked trees. Not run by any test of ours.

xm_runtime_version() { printf 'enroot %s\n' "$(enroot version)"; }

xm_prepare() {
    command -v enroot >/dev/null || xm_finish failed '' 'enroot is not on this node'
    # It mounts its start script at a place that other runtimes' trees do not have.
    xm_root_key=$xm_root_key-enroot xm_more_points=etc/rc
    xm_have_trees
    mkdir -m 700 "$xm_local/enroot"
    printf '%s\n' 'cd -- "$1" && shift && exec "$@"' >"$xm_local/rc" && chmod 755 "$xm_local/rc"
    # Its hook for libnvidia-container goes by these.
    xm_more=() xm_visible=()
    ((xm_gpus)) && xm_visible=("NVIDIA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES:-all}" NVIDIA_DRIVER_CAPABILITIES=compute,utility)
    return 0
}

xm_bind() { xm_more+=(--mount "$1:$2:rbind,ro"); }

xm_guard() { xm_guard_group; }

xm_unguard() { xm_unguard_group; }

xm_outlast() { return "$1"; }

# It becomes the command itself.
xm_forward() { kill -"$1" "$xm_container" 2>/dev/null; }

xm_has_started() { (($1 == 0)) || ! [[ $(tail -n 1 "$xm_dir/log") =~ ^(\[ERROR\]|enroot-[a-z]+:) ]]; }

xm_kill() { kill -KILL -- "-$xm_container" 2>/dev/null; }
