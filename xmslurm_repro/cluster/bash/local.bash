# The scheduler of a machine that has none: a supervisor for each submission, detached from
# whoever started it. A job is a folder local/<id>, made by exactly one mkdir.

local_jobs=$xm_state/local

# Process ids come back; a process is the one we mean if it began when ours did.
local_began() {
    local line
    read -r line 2>/dev/null <"/proc/$1/stat" || return 1
    line=${line##*) }
    set -- $line
    [[ $1 != Z ]] && printf '%s' "${20}"
}

local_is_alive() { [[ -n $1 && $(local_began "$1") == "$2" ]]; }

local_task() {  # JOB_FOLDER TASK MINUTES
    local job=$1 n=$2 restarts=0
    rm -f "$job/again.$n"
    while local_attempt "$@" "$restarts"; [[ -e $job/again.$n && ! -e $job/cancelled && ! -e $job/cancelled.$n ]]; do
        rm -f "$job/again.$n"
        restarts=$((restarts + 1))
    done
}

local_attempt() {  # JOB_FOLDER TASK MINUTES RESTARTS
    local job=$1 n=$2 minutes=$3 restarts=$4 pid code limit=() now deadline=() out=slurm-${1##*/} grace
    grace=$(sed -n 's/^xm_timeout_grace=\([0-9]*\)$/\1/p; /^xm_root_layers=/q' "$job/script")
    printf -v now '%(%s)T' -1
    if ((minutes > 0)); then
        limit=(timeout -k 60 "${minutes}m") deadline=("XM_DEADLINE=$((now + minutes * 60 - 1))")
        [[ -n $grace ]] && ((grace < minutes * 60)) &&
            limit=(timeout -s USR2 -k "$grace" "$((minutes * 60 - grace))")
    fi
    [[ $(<"$job/tasks") -gt 1 ]] && out=${out}_$n
    set -m
    env -i PATH="$PATH" HOME="$HOME" USER="${USER:-$(id -un)}" LOGNAME="${LOGNAME:-$(id -un)}" \
        SHELL=/bin/bash ${TMPDIR:+TMPDIR="$TMPDIR"} ${XDG_RUNTIME_DIR:+XDG_RUNTIME_DIR="$XDG_RUNTIME_DIR"} \
        XM_JOB_ID="${job##*/}" XM_TASK_ID="$n" XM_RESTART_COUNT="$restarts" "${deadline[@]}" "${limit[@]}" \
        bash "$job/script" </dev/null >>"$(<"$job/output")/$out.out" 2>&1 9>&- &
    pid=$!
    set +m
    printf 'running %s %s\n' "$pid" "$(local_began "$pid")" >"$job/task.$n.new" && mv -f "$job/task.$n.new" "$job/task.$n"
    [[ -e $job/cancelled || -e $job/cancelled.$n ]] && kill -TERM "$pid" 2>/dev/null
    wait "$pid"
    code=$?
    if [[ -e $job/cancelled || -e $job/cancelled.$n ]]; then
        printf 'cancelled %s\n' "$code" >"$job/task.$n.new"
    elif [[ -e $job/again.$n ]]; then
        printf 'again\n' >"$job/task.$n.new"
    else
        printf 'ended %s\n' "$code" >"$job/task.$n.new"
    fi
    mv -f "$job/task.$n.new" "$job/task.$n"
}

local_supervise() {  # JOB_FOLDER TASKS LIMIT MINUTES
    local job=$1 tasks=$2 limit=$3 minutes=$4 n running=0 self=$BASHPID
    set -u
    trap '' HUP INT PIPE
    cd /
    # $BASHPID inside $(…) would be another process, begun later.
    printf '%s %s\n' "$self" "$(local_began "$self")" >"$job/pid.new" && mv -f "$job/pid.new" "$job/pid"
    for ((n = 0; n < tasks; n++)); do
        while ((running >= limit)); do
            wait -n
            running=$((running - 1))
        done
        if [[ -e $job/cancelled || -e $job/cancelled.$n ]]; then
            printf 'cancelled\n' >"$job/task.$n"
            continue
        fi
        local_task "$job" "$n" "$minutes" &
        running=$((running + 1))
    done
    wait
    rm -f "$job/pid"
}

scheduler_submit() {  # SCRIPT NAME TASKS LIMIT
    local id=0 job minutes i
    mkdir -p "$local_jobs" || return 1
    for job in "$local_jobs"/*; do
        job=${job##*/}
        [[ $job =~ ^[0-9]+$ ]] && ((job > id)) && id=$job
    done
    id=$((id + 1))
    until mkdir "$local_jobs/$id" 2>/dev/null; do
        [[ -d $local_jobs/$id ]] || return 1
        id=$((id + 1))
    done
    job=$local_jobs/$id
    minutes=$(sed -n 's/^#LOCAL time=//p; /^[^#]/q' "$1")
    # The processes of a group go by one state.
    ! grep -q '^xm_members=' "$1" || : >"$job/group"
    cp -- "$1" "$job/script" && printf '%s\n' "$3" >"$job/tasks" && printf '%s\n' "${1%/*}" >"$job/output" &&
        { declare -f local_began local_attempt local_task local_supervise; printf 'local_supervise "$@"\n'; } >"$job/supervisor" &&
        printf '%s\n' "$2" >"$job/name" || return 1
    (
        trap - PIPE HUP
        exec setsid bash --norc --noprofile "$job/supervisor" "$job" "$3" "$4" "${minutes:-0}" \
            </dev/null >>"$job/supervisor.log" 2>&1 9>&-
    ) &
    for ((i = 0; i < 200; i++)); do
        [[ -e $job/pid || -e $job/task.0 ]] && break
        sleep 0.02
    done
    [[ -e $job/pid || -e $job/task.0 ]] || { cat "$job/supervisor.log" >&2; return 1; }
    printf '%s\n' "$id"
}

scheduler_find() {  # NAME
    local file
    file=$(grep -s -l -x -F -e "$1" "$local_jobs"/*/name | head -n 1)
    [[ -n $file ]] && file=${file%/name} && printf '%s\n' "${file##*/}"
    return 0
}

local_state() {  # JOB_FOLDER TASK: sets word and reason
    local what= pid= began=
    word=PENDING reason=
    [[ -r $1/task.$2 ]] && read -r what pid began <"$1/task.$2"
    case $what in
        ended) [[ $pid == 0 ]] && word=COMPLETED || { word=FAILED reason="exit code $pid"; } ;;
        cancelled) word=CANCELLED ;;
        running) local_is_alive "$pid" "$began" && word=RUNNING || { [[ ! -e $1/again.$2 ]] || return 0; word=NODE_FAIL reason='the machine or its supervisor stopped'; } ;;
        *)
            [[ -r $1/pid ]] && read -r pid began <"$1/pid"
            local_is_alive "$pid" "$began" && return
            if [[ -r $1/task.$2 ]]; then
                local_state "$1" "$2" # it has just begun
            elif [[ -e $1/cancelled || -e $1/cancelled.$2 ]]; then
                word=CANCELLED
            else
                word=NODE_FAIL reason='the machine or its supervisor stopped'
            fi
            ;;
    esac
}

scheduler_states() {  # FILE_OF_TOKENS
    local token id tasks n word reason
    while read -r token; do
        [[ -r $xm_state/submit/$token/jobid ]] && read -r id <"$xm_state/submit/$token/jobid" || continue
        [[ -r $local_jobs/$id/tasks ]] && read -r tasks <"$local_jobs/$id/tasks" || continue
        for ((n = 0; n < tasks; n++)); do
            local_state "$local_jobs/$id" "$n"
            printf '%s|%s|%s|%s\n' "$id$([[ -e $local_jobs/$id/group ]] || printf _%s "$n")" "$word" "xmslurm-$token" "$reason"
        done
    done <"$1"
}

scheduler_history() { :; }

scheduler_alive() {  # NAME TASK
    local id word reason
    id=$(scheduler_find "$1")
    [[ -n $id ]] || return 1
    local_state "$local_jobs/$id" "$2"
    [[ $word == PENDING || $word == RUNNING ]]
}

scheduler_living() {  # NAME…
    local name id n tasks word reason
    for name; do
        id=$(scheduler_find "$name")
        [[ -n $id && -r $local_jobs/$id/tasks ]] && read -r tasks <"$local_jobs/$id/tasks" || continue
        for ((n = 0; n < tasks; n++)); do
            local_state "$local_jobs/$id" "$n"
            [[ $word == PENDING || $word == RUNNING ]] && printf '%s %s\n' "$name" "$n"
        done
    done
    return 0
}

scheduler_cancel() {
    local id job n what pid began
    for id; do
        job=$local_jobs/${id%%[_+]*}
        [[ -d $job ]] || continue
        if [[ $id == *_* ]]; then : >"$job/cancelled.${id##*_}"; else : >"$job/cancelled"; fi
        for n in "$job"/task.*; do
            [[ $id == *_* && $n != "$job/task.${id##*_}" ]] && continue
            [[ -r $n ]] && read -r what pid began <"$n" || continue
            [[ $what == running ]] && local_is_alive "$pid" "$began" || continue
            kill -TERM "$pid" 2>/dev/null
            # It has a minute to leave its record.
            (
                trap - PIPE HUP
                exec setsid bash -c "$(declare -f local_began local_is_alive)
                    for ((i = 0; i < 60; i++)); do local_is_alive $pid $began || exit 0; sleep 1; done
                    kill -KILL -- -$pid" </dev/null >/dev/null 2>&1
            ) &
        done
    done
}

scheduler_limits() { :; }

scheduler_estimate() { echo now; }

scheduler_grace() { printf 20; }
