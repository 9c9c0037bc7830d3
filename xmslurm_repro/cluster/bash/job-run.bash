# Running the container, and what may interrupt it.

# Slurm signals every process of a job on some sites and only this shell on others. Why it does is
# not in the signal; the controller knows.
xm_on_signal() {
    [[ -n ${xm_interrupted-} && -z ${xm_is_early-} ]] && return
    # After an early warning, too, it may be cancelled, or come to its limit.
    xm_is_early= xm_left_tenths=$((xm_grace_seconds * 10))
    xm_find_why "$1"
    [[ -n ${xm_container-} ]] || xm_finish "$xm_interrupted" '' "$xm_why"
    xm_forward "$1"
}

xm_find_why() {
    local shown= now
    xm_interrupted=cancelled xm_why="the scheduler ended it (SIG$1)"
    if [[ -n ${XM_DEADLINE-} ]]; then
        printf -v now '%(%s)T' -1
        ((now >= XM_DEADLINE)) && xm_interrupted=timeout xm_why='it reached its time limit'
    elif [[ -n ${SLURM_JOB_ID-} && -z ${XM_MEMBER-} ]]; then
        shown=$(timeout 1 scontrol show job -o "$SLURM_JOB_ID" 2>/dev/null)
        xm_read_why "$shown"
    fi
}

xm_seconds() {  # [days-]hours:minutes:seconds
    local days=0 text=$1
    [[ $text == *-* ]] && days=${text%%-*} text=${text#*-}
    [[ $text =~ ^([0-9]+):([0-9]+):([0-9]+)$ ]] || { printf '%s' -1; return; }
    printf '%s' $((10#$days * 86400 + 10#${BASH_REMATCH[1]} * 3600 + 10#${BASH_REMATCH[2]} * 60 + 10#${BASH_REMATCH[3]}))
}

xm_read_why() {
    local word ran=-1 limit=-1 restarts=0
    for word in $1; do
        case $word in
            RunTime=*) ran=$(xm_seconds "${word#*=}") ;;
            TimeLimit=*) limit=$(xm_seconds "${word#*=}") ;;
            Restarts=*) restarts=${word#*=} ;;
            JobState=PREEMPTED*) restarts=999999 ;;
            JobState=TIMEOUT*) limit=0 ran=0 ;;
        esac
    done
    if ((restarts > ${SLURM_RESTART_COUNT:-0})); then
        xm_interrupted=preempted xm_why='it was preempted or requeued'
    elif ((limit >= 0 && ran >= limit)); then
        xm_interrupted=timeout xm_why='it reached its time limit'
    fi
}

xm_children() { cat "/proc/$1/task/$1/children" 2>/dev/null; }

xm_oom_kills() {
    local id controllers path file word count total=0
    while IFS=: read -r id controllers path; do
        for file in "/sys/fs/cgroup$path/memory.events" "/sys/fs/cgroup/memory$path/memory.oom_control"; do
            [[ -r $file && ( -z $controllers || $controllers == *memory* ) ]] || continue
            while read -r word count; do [[ $word == oom_kill ]] && total=$((total + count)); done <"$file"
        done
    done </proc/self/cgroup
    # A container that is no part of the job is counted by its engine.
    [[ -e $xm_local/oom ]] && total=$((total + 1))
    printf '%s' "$total"
}

# Where Slurm tracks processes by their parents, a container outlives a job whose shell is killed.
# This waits for the lock that the job holds for as long as it lives.
xm_guard_group() {
    (
        trap '' TERM INT HUP
        exec setsid flock "$xm_local/lock" bash --norc --noprofile -c 'kill -KILL -- "-$1"' guard "$xm_container" 8>&-
    ) </dev/null >/dev/null 2>&1 &
    xm_guard_pid=$!
    disown "$xm_guard_pid"
}

xm_unguard_group() { kill -KILL "$xm_guard_pid" 2>/dev/null; }

# Wait for the container; after a signal only as long as we were given.
xm_wait() {
    wait "$xm_container"
    while kill -0 "$xm_container" 2>/dev/null; do
        if [[ -n ${xm_interrupted-} ]]; then
            ((xm_left_tenths-- > 0)) || xm_kill
            sleep 0.1
        else
            wait "$xm_container"
        fi
    done
    wait "$xm_container"
}

# Where every process of a job is signalled, the command may be gone before our own signal comes,
# which alone tells a job that was ended from a command that died.
xm_await_signal() {
    local i
    for ((i = 0; i < 10; i++)); do
        [[ -n ${xm_interrupted-} ]] && return
        sleep 0.1
    done
}

xm_start() {
    local code oom state=completed reason= touched
    oom=$(xm_oom_kills)
    if ((${#xm_secret_fields[@]})); then exec 7< <(xm_say_secrets); else exec 7</dev/null; fi
    ulimit -S -c 0
    xm_name_environment
    xm_hide_secrets
    xm_build_command
    # Job control, because without it the shell starts what goes to the background with SIGINT
    # ignored, and that would reach the command.
    set -m
    "${xm_command[@]}" <&7 >>"$xm_dir/log" 2>&1 3>"$xm_local/status" 7<&- 8>&- 9>&- &
    xm_container=$!
    exec 7<&-
    set +m
    xm_guard
    xm_watch_memory
    xm_wait
    xm_outlast "$?"
    code=$?
    xm_exit_code=$code
    xm_unwatch_memory
    ((code > 128)) && xm_await_signal
    xm_unguard
    if [[ -n ${xm_interrupted-} ]]; then
        xm_finish "$xm_interrupted" "$code" "$xm_why"
    fi
    if ! xm_has_started "$code"; then
        xm_finish failed '' "$xm_runtime could not start the command: $(tail -n 1 "$xm_dir/log" | head -c 500)"
    fi
    ((code != 0)) && state=failed
    ((code > 128 && code < 193)) && reason="the command was killed by signal $((code - 128))"
    if ((code != 0)) && (($(xm_oom_kills) > oom)); then
        state=out-of-memory reason='it used more memory than it asked for'
    fi
    # What a command says of it may have found no room either.
    if ((code != 0)) && [[ -z $reason ]]; then
        if xm_is_full "$xm_dir"; then reason="there is no space left in $xm_state"
        elif xm_is_full "$xm_tmp"; then reason="there is no space left in $xm_scratch of the node"; fi
    fi
    touched=$(xm_touched_inputs)
    [[ -z $touched ]] || reason="${reason:+$reason; }inputs changed while it ran: ${touched% }"
    xm_finish "$state" "$code" "$reason"
}

xm_is_full() {
    local free
    free=$(df -Pk "$1" 2>/dev/null | awk 'NR == 2 { print $4 }')
    [[ -n $free ]] && ((free < 64))
}

xm_main() {
    xm_identify
    xm_now xm_started
    xm_claim || { xm_say "nothing can be written to $xm_run_dir"; exit 125; }
    mkdir "$xm_dir" && mkdir "$xm_dir/outputs" || { xm_say "the attempt $xm_dir cannot begin"; exit 125; }
    xm_reserve
    xm_go
}

xm_go() {
    trap 'xm_on_signal TERM' TERM
    trap 'xm_on_signal INT' INT
    trap 'xm_on_near_limit' USR2
    trap 'xm_pass_on USR1' USR1
    xm_make_folders
    [[ -n ${XM_MEMBER-} ]] && xm_outputs=$XM_DIR/outputs && xm_watch_leader
    [[ -n ${xm_setup_failed-} ]] && xm_finish failed '' "the cluster's setup ended with exit status $xm_setup_failed"
    [[ -n ${XM_MEMBER-} ]] || xm_carry_on
    (trap '' TERM INT USR1 USR2; exec 8>&-; xm_facts; xm_sweep; xm_limit_restarts) &
    xm_facts_pid=$!
    xm_read_task
    xm_check_inputs
    xm_prepare
    xm_bind_inputs || xm_finish failed '' "nothing can be written to $xm_local"
    [[ -n ${xm_interrupted-} ]] && xm_finish "$xm_interrupted" '' "$xm_why"
    xm_start
}
