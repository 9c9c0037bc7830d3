# bubblewrap: unpacked trees, a user namespace, nothing installed setuid.

xm_runtime_version() { bwrap --version; }

xm_prepare() {
    command -v bwrap >/dev/null || xm_finish failed '' 'bubblewrap (bwrap) is not on this node'
    xm_have_trees
    xm_more=()
    [[ $xm_network == host ]] && xm_bind_names
    ((xm_gpus)) && xm_bind_driver
    return 0
}

xm_bind() { xm_more+=(--ro-bind "$1" "$2"); }

# The node's resolver, at places that the image leaves for it.
xm_bind_names() {
    local file
    for file in /etc/resolv.conf /etc/hosts; do
        [[ -f $file && -f $xm_root$file && ! -L $xm_root$file ]] && xm_more+=(--ro-bind "$file" "$file")
    done
}

xm_bind_driver() {
    local device library path found=0
    while read -r device; do xm_more+=(--dev-bind "$device" "$device"); done < <(xm_gpu_devices)
    while read -r library path; do
        ((found++)) || xm_more+=(--tmpfs /xm/driver)
        xm_more+=(--ro-bind "$path" "/xm/driver/$library")
    done < <(xm_driver_libraries)
    ((found)) || return 0
    xm_more+=(--remount-ro /xm/driver)
    xm_add_library_path /xm/driver
}

# The process that we see waits for the first one inside, whose children are the command's.
xm_forward() {
    local first pid
    for first in $(xm_children "$xm_container"); do
        for pid in $(xm_children "$first"); do kill -"$1" "$pid" 2>/dev/null; done
    done
}

# bubblewrap reports an exit code only of what it could set up and start. It does not end like a
# killed process unless it was one.
xm_has_started() { (($1 > 128)) || grep -q exit-code "$xm_local/status"; }

# A container of bubblewrap dies with us.
xm_guard() { :; }

xm_unguard() { :; }

xm_outlast() { return "$1"; }

xm_kill() { kill -KILL -- "-$xm_container" 2>/dev/null; }
