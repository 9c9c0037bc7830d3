# pyxis: enroot by srun, on one file of base and packages. Not run by any test of ours but for the
# making of that file.

xm_runtime_version() { printf 'pyxis of %s\n' "$(srun --version)"; }

xm_prepare() {
    [[ -z ${XM_MEMBER-} ]] || xm_finish failed '' 'pyxis runs no replicas and no groups'
    [[ $xm_state$xm_dir$xm_local != *[,:]* ]] || xm_finish failed '' "pyxis cannot mount folders with commas or colons in their paths: $xm_state, $xm_local"
    # It mounts its start script at a place that other runtimes' trees do not have.
    xm_root_key=$xm_root_key-enroot xm_more_points=etc/rc
    xm_have_trees
    xm_have_squash
    xm_more=()
    xm_mounts=$xm_tmp:/tmp,$xm_outputs:/xm/outputs,$xm_pycache:/xm/pycache,$xm_private:/xm/pycache/xm/code
    ((${#xm_code_layers[@]} == 0)) || xm_mounts+=,$xm_code:/xm/code:ro
    return 0
}

# xm_have_squash: the tree $xm_root as one file beside it. Made once, from the tree as it was checked
# just now; one that was touched since is made again.
xm_have_squash() {
    local stamp known why
    xm_squash=$xm_root.sqfs
    stamp=$(stat -c '%s %.9Y %.9Z %i' "$xm_squash" 2>/dev/null)
    [[ -n $stamp && -r $xm_squash.stamp ]] && read -r known <"$xm_squash.stamp"
    if [[ -n $stamp && $stamp == "${known-}" ]]; then
        ((!xm_full_check)) && return 0
        known=$(sha256sum <"$xm_squash") && [[ ${known%% *} == "$(<"$xm_squash.sha256")" ]] && return 0
    fi
    command -v mksquashfs >/dev/null || xm_finish failed '' 'squashfs-tools (mksquashfs) are not on this node'
    why=$(xm_alone "$xm_squash.lock" xm_make_squash "$stamp" 2>&1) || xm_refuse_tree 'the image cannot be made one file: ' "$why"
}

# xm_make_squash STAMP: what was there when it was found wanting.
xm_make_squash() {
    local new=$xm_squash.new.$xm_attempt${xm_rank:+-$xm_rank} sum
    # Somebody else was quicker.
    [[ -e $xm_squash && $(stat -c '%s %.9Y %.9Z %i' "$xm_squash") != "$1" ]] && return 0
    rm -f "$new"
    # The same tree gives the same bytes.
    mksquashfs "$xm_root" "$new" -noappend -quiet -no-progress -comp gzip -Xcompression-level 1 \
        -all-root -mkfs-time 0 -all-time 0 -no-xattrs >/dev/null || { rm -f "$new"; return 1; }
    sum=$(sha256sum <"$new") && printf '%s\n' "${sum%% *}" >"$xm_squash.sha256" && mv -f "$new" "$xm_squash" &&
        stat -c '%s %.9Y %.9Z %i' "$xm_squash" >"$xm_squash.stamp"
}

xm_bind() { xm_mounts+=,$1:$2:ro; }

xm_guard() { :; }

xm_unguard() { :; }

xm_outlast() { return "$1"; }

# srun passes on what it gets.
xm_forward() { kill -"$1" "$xm_container" 2>/dev/null; }

xm_has_started() { (($1 == 0)) || ! tail -n 3 "$xm_dir/log" | grep -q -e '^slurmstepd: error: pyxis:' -e '^srun: error: .*spank'; }

xm_kill() { kill -KILL -- "-$xm_container" 2>/dev/null; }
