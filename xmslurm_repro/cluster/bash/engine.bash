# What podman and docker have in common: a container that is no child of the job's. The command
# lines begin with the array xm_engine, the container is called xm_name and ended by xm_engine_end.

# xm_refuse_load ENGINE: what `why` says kept it from having the image.
xm_refuse_load() {
    local why
    why=$(tail -n 1 "$xm_local/why" | head -c 500)
    [[ $why == 'xmslurm: blob '* ]] && xm_refuse "${why#xmslurm: }"
    xm_finish failed '' "$1 cannot load the image: $why"
}

# Where Slurm tracks processes by their parents, a container outlives a job that is killed: it is no
# child of the job's. This waits for the lock that the job holds for as long as it lives.
xm_guard() {
    (
        trap '' TERM INT HUP
        exec setsid flock "$xm_local/lock" "${xm_engine[@]}" "${xm_engine_end[@]}" "$xm_name" 8>&-
    ) </dev/null >/dev/null 2>&1 &
    xm_guard_pid=$!
    sleep infinity 8>&- &
    xm_canary_pid=$!
    disown "$xm_guard_pid" "$xm_canary_pid"
}

xm_unguard() { kill -KILL "$xm_guard_pid" "$xm_canary_pid" 2>/dev/null; }

# podman passes on what it gets itself; where only this shell was signalled we do. The canary knows.
# Not at once: a helper of podman that is signalled halfway makes it give up.
xm_forward() {
    sleep 0.3
    kill -0 "$xm_canary_pid" &>/dev/null || return 0
    "${xm_engine[@]}" kill -s "$1" "$xm_name" >/dev/null 2>&1
}

# podman may end, by a signal or a fault of its own, before its container does.
xm_outlast() {  # CODE: the code to go by
    local code=$1 answer
    ((code > 128)) || [[ -n ${xm_interrupted-} ]] || return "$code"
    "${xm_engine[@]}" container inspect "$xm_name" &>/dev/null || return "$code"
    if [[ -n ${xm_interrupted-} ]]; then
        "${xm_engine[@]}" kill -s TERM "$xm_name" >/dev/null 2>&1
        answer=$(timeout "$xm_grace_seconds" "${xm_engine[@]}" wait "$xm_name" 2>/dev/null)
    fi
    "${xm_engine[@]}" kill -s KILL "$xm_name" >/dev/null 2>&1
    [[ ${answer-} =~ ^[0-9]+$ ]] && return "$answer"
    return "$code"
}

xm_first_pid() {
    local pid
    pid=$("${xm_engine[@]}" container inspect --format '{{.State.Pid}}' "$xm_name" 2>/dev/null)
    ((pid > 0)) && printf '%s' "$pid"
}

xm_kill() {
    "${xm_engine[@]}" kill -s KILL "$xm_name" >/dev/null 2>&1
    kill -KILL -- "-$xm_container" 2>/dev/null
}
