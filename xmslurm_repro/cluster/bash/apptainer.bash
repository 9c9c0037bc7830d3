# apptainer, or singularity by the same flags, on unpacked trees: SIF files are not bit-stable.

xm_runtime_version() { "$xm_apptainer" --version; }

xm_apptainer=$(command -v "${xm_programs[@]}" | head -n 1)

xm_prepare() {
    [[ -n $xm_apptainer ]] || xm_finish failed '' "${xm_programs[0]} is not on this node"
    xm_have_trees
    xm_more=()
    ((xm_gpus)) || return 0
    [[ -e /dev/nvidiactl ]] && xm_more+=(--nv)
    [[ -e /dev/kfd ]] && xm_more+=(--rocm)
    # Where these options put the driver; the command's environment is not apptainer's.
    ((${#xm_more[@]})) && xm_add_library_path /.singularity.d/libs
    return 0
}

xm_bind() { xm_more+=(--mount "type=bind,source=$1,destination=$2,ro"); }

xm_guard() { xm_guard_group; }

xm_unguard() { xm_unguard_group; }

xm_outlast() { return "$1"; }

# The process that we see passes signals on.
xm_forward() { kill -"$1" "$xm_container" 2>/dev/null; }

# Its own failures end in 255 and a line that says FATAL.
xm_has_started() {
    (($1 == 255)) && [[ $(tail -n 1 "$xm_dir/log") == *FATAL:* ]] && return 1
    return 0
}

xm_kill() { kill -KILL -- "-$xm_container" 2>/dev/null; }
