# Inputs: checked before the command starts, and shown to it where nobody can write to them.

xm_check_inputs() {
    local number name path
    xm_input_real=() xm_input_stamps=()
    xm_work=$xm_local/work
    mkdir -p "$xm_work"
    for number in "${!xm_input_names[@]}"; do
        name=${xm_input_names[number]} path=${xm_input_paths[number]}
        xm_measure "$path" || xm_refuse "the input $name cannot be had: $xm_why"
        [[ $xm_kind:$xm_digest == "${xm_input_digests[number]}" ]] ||
            xm_refuse "the input $name is not what was recorded: $path is now ${xm_kind} sha256:$xm_digest"
        xm_input_real+=("$xm_real") xm_input_stamps+=("$xm_stamp")
    done
}

# Every runtime has xm_bind, which lets its command line show a file or folder read-only. Those that
# run an unpacked tree need a place in it to put it.
xm_bind_inputs() {
    local number name real
    ((${#xm_input_names[@]})) || return 0
    mkdir -p "$xm_local/inputs" "$xm_local/sources" || return 1
    for number in "${!xm_input_names[@]}"; do
        name=${xm_input_names[number]} real=${xm_input_real[number]}
        # Not every path can stand in an option.
        ln -s "$real" "$xm_local/sources/$name"
        if [[ -d $real ]]; then mkdir "$xm_local/inputs/$name"; else : >"$xm_local/inputs/$name"; fi
    done
    [[ -n ${xm_root-} ]] && xm_bind "$xm_local/inputs" /xm/inputs
    for number in "${!xm_input_names[@]}"; do
        name=${xm_input_names[number]}
        xm_bind "$xm_local/sources/$name" "/xm/inputs/$name"
    done
}

# Names of inputs that were touched while the command ran.
xm_touched_inputs() {
    local number
    for number in "${!xm_input_real[@]}"; do
        [[ $(xm_input_stamp "${xm_input_real[number]}" 2>/dev/null) == "${xm_input_stamps[number]}" ]] ||
            printf '%s ' "${xm_input_names[number]}"
    done
}
