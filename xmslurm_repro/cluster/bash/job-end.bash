# How an attempt ends, and what it leaves.

# xm_write NAME: keep standard input as NAME in the attempt's folder, whole or not at all.
xm_write() {
    if cat >"$xm_dir/.$1.new"; then
        sync "$xm_dir/.$1.new" 2>/dev/null
        mv -f "$xm_dir/.$1.new" "$xm_dir/$1"
    else
        rm -f "$xm_dir/.$1.new"
        return 1
    fi
}

# Room for what has to be written when there is none left: a command may fill the disk.
xm_reserve() { head -c 262144 /dev/zero >"$xm_dir/.reserve" 2>/dev/null; }

# xm_write_surely NAME FILE: other jobs may be about to make room.
xm_write_surely() {
    local try
    rm -f "$xm_dir/.reserve"
    for try in 1 2 3 4 5; do
        xm_write "$1" <"$2" && return 0
        sleep "$try"
    done
    xm_say "$xm_dir/$1 cannot be written"
    return 1
}

# What stands in the outputs folder.
xm_list_outputs() {
    find "$xm_dir/outputs" -type d ! -perm -u+rwx -exec chmod u+rwx {} \; -o -type f ! -perm -u+r -exec chmod u+r {} +
    xm_work=$xm_local/outputs.work xm_list_folder "$xm_dir/outputs"
}

# xm_finish STATE EXIT_CODE REASON: leave the record and end.
xm_finish() {
    local reason=${3//[[:cntrl:]]/ }
    trap '' TERM INT HUP USR1 USR2
    [[ -n ${XM_MEMBER-} ]] && xm_leave_group "$1"
    # The command may have filled the node's disk, and we need a little of it.
    [[ -n ${xm_tmp-} ]] && rm -rf -- "$xm_tmp" 2>/dev/null
    [[ -n ${xm_facts_pid-} ]] && wait "$xm_facts_pid"
    xm_add_late_facts
    if [[ -n ${xm_local-} ]] && xm_list_outputs >"$xm_local/outputs"; then
        xm_write_surely outputs.sha256 "$xm_local/outputs"
    elif [[ -n ${xm_local-} ]]; then
        set -- failed "$2" "$3"
        reason="the outputs could not be read${reason:+; $reason}"
    else
        xm_write_surely outputs.sha256 /dev/null
    fi
    if xm_wants_again "$1" "$2"; then
        if xm_again; then
            reason="${reason:-its exit code was $2}; it is started again"
            set -- preempted "$2"
        else
            reason="${reason:+$reason; }$xm_not_again"
        fi
    fi
    xm_write_end "$1" "$2" "$reason"
    [[ -n ${XM_MEMBER-} ]] || xm_forget_secrets "$1"
    xm_clean
    [[ $2 == 0 && $1 == completed ]] && exit 0
    [[ -n $2 && $2 != 0 ]] && exit "$2"
    exit 125
}

# xm_write_end STATE EXIT_CODE REASON: the last that an attempt writes.
xm_write_end() {
    local ended log outputs text try reason=${3//[[:cntrl:]]/ }
    xm_now ended
    [[ -e $xm_dir/log ]] || : >"$xm_dir/log"
    log=$(sha256sum <"$xm_dir/log") outputs=$(sha256sum <"$xm_dir/outputs.sha256")
    printf -v text '%s\n' format=1 "state=$1" "exit_code=$2" "started_at=$xm_started" "ended_at=$ended" \
        "image=${xm_attested-}" "log_sha256=${log%% *}" "outputs_sha256=${outputs%% *}" "reason=$reason"
    rm -f "$xm_dir/.reserve"
    for try in 1 2 3 4 5; do
        printf '%s' "$text" | xm_write end && break
        sleep "$try"
    done
    [[ -z $reason ]] || xm_say "$1: $reason"
}

xm_clean() {
    [[ -n ${xm_teardown-} ]] && (set +u; eval "$xm_teardown") >&2
    [[ -n ${xm_local-} ]] || return 0
    rm -rf -- "$xm_local" 2>/dev/null || {
        chmod -R u+rwX -- "$xm_local" 2>/dev/null
        rm -rf -- "$xm_local"
    }
}

# xm_refuse REASON: we were not given what the manifest says.
xm_refuse() {
    xm_settle
    xm_finish refused '' "${1//xmslurm: /}"
}

# Where every process of a job is signalled, a check may have failed because its tools were. Our
# own signal then comes within this time, and a cancelled job is no refused one.
xm_settle() { sleep 0.3; }
