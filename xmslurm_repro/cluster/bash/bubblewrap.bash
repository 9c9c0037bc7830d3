# bubblewrap: unpacked trees, a user namespace, nothing installed setuid.

xm_runtime_version() { bwrap --version; }

xm_prepare() {
    command -v bwrap >/dev/null || xm_finish failed '' 'bubblewrap (bwrap) is not on this node'
    xm_have_trees
}

# The process that we see waits for the first one inside, whose children are the command's.
xm_forward() {
    local first pid
    for first in $(xm_children "$xm_container"); do
        for pid in $(xm_children "$first"); do kill -"$1" "$pid" 2>/dev/null; done
    done
}

# bubblewrap reports an exit code only of what it could set up and start.
xm_has_started() { grep -q exit-code "$xm_local/status"; }

xm_kill() { kill -KILL -- "-$xm_container" 2>/dev/null; }
