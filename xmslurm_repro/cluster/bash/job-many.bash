# Jobs of several processes: replicas of one command, members of a group, or both.
#
# This script leads them from the first node. It starts the processes, on whatever nodes they have,
# with its own text as their program; each makes its checks and runs its container like a job of
# one, with a folder of its own, replicas/<rank> in the attempt's. What they leave is put together
# here. They are spoken to by files: `stop` and `near-limit` in the folder of the first member.

: "${xm_members=1}"

# For each member: xm_ranks says how many processes, xm_names its name, xm_cpus the CPUs of each.

xm_boot='IFS= read -r -d "" program || exit 74; eval "$program"'

# xm_take_member NUMBER: what follows is about that member.
xm_take_member() {
    xm_be_member "$1"
    if ((xm_members > 1)); then
        xm_task=$1 xm_job_name=$xm_job+$1
        xm_attempt=$xm_job_name.$xm_restarts
        xm_run_dir=$xm_state/runs/$xm_token/$xm_task
        xm_dir=$xm_run_dir/$xm_attempt
    fi
}

xm_lead() {
    local member
    xm_identify
    xm_job=${SLURM_HET_JOB_ID:-$xm_job}
    xm_now xm_started
    for ((member = 0; member < xm_members; member++)); do
        xm_take_member "$member"
        xm_claim || { xm_say "nothing can be written to $xm_run_dir"; exit 125; }
        mkdir "$xm_dir" && mkdir "$xm_dir/outputs" "$xm_dir/replicas" && : >"$xm_dir/log" ||
            { xm_say "the attempt $xm_dir cannot begin"; exit 125; }
        ((member)) || xm_lead_dir=$xm_dir
    done
    trap 'xm_lead_on_signal TERM' TERM
    trap 'xm_lead_on_signal INT' INT
    trap 'xm_lead_on_near_limit' USR2
    trap '' USR1
    xm_make_folders
    for ((member = 0; member < xm_members; member++)); do
        xm_take_member "$member"
        xm_carry_on
    done
    xm_limit_restarts
    xm_meet
    xm_pids=()
    for ((member = 0; member < xm_members; member++)); do
        xm_take_member "$member"
        xm_spawn "$member"
    done
    xm_lead_wait
    xm_conclude
}

xm_lead_on_signal() {
    [[ -n ${xm_interrupted-} && -z ${xm_is_early-} ]] && return
    xm_is_early=
    xm_find_why "$1"
    printf '%s\n%s\n' "$xm_interrupted" "$xm_why" >"$xm_lead_dir/stop.new" && mv -f "$xm_lead_dir/stop.new" "$xm_lead_dir/stop"
}

xm_lead_on_near_limit() {
    [[ -n ${xm_interrupted-} || -z $xm_timeout_signal ]] && return
    xm_interrupted=timeout xm_is_early=1 xm_why='its time limit was near'
    : >"$xm_lead_dir/near-limit"
}

# Where they find each other: each member's nodes, the address of its first node as Slurm has it,
# and a port that nobody listens at.
xm_meet() {
    local member list nodes first shown port
    port=$((20000 + (xm_job * 7 + xm_task * 13) % 20000))
    for ((member = 0; member < xm_members; member++)); do
        xm_nodes[member]=localhost xm_addresses[member]=127.0.0.1
        if [[ -n ${SLURM_JOB_ID-} ]]; then
            list=SLURM_JOB_NODELIST_HET_GROUP_$member
            list=${!list-$SLURM_JOB_NODELIST}
            nodes=$(scontrol show hostnames "$list") && first=${nodes%%$'\n'*}
            shown=$(scontrol show node -o "$first" 2>/dev/null)
            [[ $shown =~ NodeAddr=([^ ]+) ]] && xm_addresses[member]=${BASH_REMATCH[1]} || xm_addresses[member]=$first
            xm_nodes[member]=${nodes//$'\n'/,}
        fi
        while xm_is_listening "$port"; do port=$((port + 1)); done
        xm_ports[member]=$port
        port=$((port + 1))
    done
}

xm_is_listening() {
    local hex
    printf -v hex ':%04X' "$1"
    awk -v port="$hex" '$4 == "0A" && substr($2, length($2) - 4) == port { found = 1 } END { exit !found }' \
        /proc/net/tcp /proc/net/tcp6 2>/dev/null
}

# xm_spawn MEMBER: start its processes.
xm_spawn() {
    local member=$1 count=${xm_ranks[$1]} rank group=() peers= peer name told
    for ((rank = 0; rank < count; rank++)); do mkdir -p "$xm_dir/replicas/$rank/outputs"; done
    # A single process prints to the log itself; several each have a log, and all are in one.
    ((count > 1)) || ln -s ../../log "$xm_dir/replicas/0/log"
    if ((xm_members > 1)); then
        for ((peer = 0; peer < xm_members; peer++)); do
            name=${xm_names[peer]^^}
            name=XMSLURM_JOB_GROUP_${name//[!A-Z0-9]/_}
            peers+="${name}_NODELIST=${xm_nodes[peer]}"$'\n'"${name}_ADDRESS=${xm_addresses[peer]}"$'\n'
            peers+="${name}_PORT=${xm_ports[peer]}"$'\n'
        done
    fi
    told=(XM_MEMBER="$member" XM_LEAD="$xm_lead_dir" XM_JOB="$xm_job" XM_JOB_NAME="$xm_job_name" XM_TASK="$xm_task"
        XM_DIR="$xm_dir" XM_COUNT="$count" XM_ADDRESS="${xm_addresses[member]}" XM_PORT="${xm_ports[member]}"
        XM_PEERS="$peers")
    if [[ -n ${SLURM_JOB_ID-} ]]; then
        ((xm_members > 1)) && group=("--het-group=$member")
        # What a step has of the job's with a type is dealt to nobody (22.05).
        ((xm_gpus && count > 1)) && group+=("--gpus-per-task=$xm_gpus") && told=(--unset=SLURM_GPUS_PER_TASK "${told[@]}")
        { cat "$0"; printf '\0'; } | env "${told[@]}" srun "${group[@]}" --ntasks="$count" --cpus-per-task="${xm_cpus[$1]}" \
            --kill-on-bad-exit=0 --mpi=none --input=all --unbuffered --export=ALL --chdir=/ \
            bash --norc --noprofile -c "$xm_boot" xmslurm >>"$xm_dir/replicas/said" 2>&1 8>&- &
        xm_pids+=("$!")
        return
    fi
    for ((rank = 0; rank < count; rank++)); do
        env "${told[@]}" XM_RANK="$rank" bash --norc --noprofile -c "$xm_boot" xmslurm < <(cat "$0"; printf '\0') \
            >>"$xm_dir/replicas/said" 2>&1 8>&- &
        xm_pids+=("$!")
    done
}

xm_lead_wait() {
    local pid left
    while :; do
        left=()
        for pid in "${xm_pids[@]}"; do kill -0 "$pid" 2>/dev/null && left+=("$pid"); done
        xm_pids=("${left[@]}")
        ((${#xm_pids[@]})) || return 0
        wait -n "${xm_pids[@]}" 2>/dev/null || {
            # One that could not even be started says nothing else to the others.
            (($? < 128)) && [[ ! -e $xm_lead_dir/stop ]] && : >"$xm_lead_dir/stop"
        }
    done
}

# xm_field NAME FILE
xm_field() { sed -n "s/^$1=//p" "$2" 2>/dev/null; }

# Put together what the processes of each member left, and say how each member ended. Whether all
# is started again is decided once, by any of them.
xm_conclude() {
    local member again=
    trap '' TERM INT HUP USR1 USR2
    xm_codes=() xm_states=() xm_reasons=() xm_images=()
    for ((member = 0; member < xm_members; member++)); do
        xm_take_member "$member"
        xm_judge_member "$member"
        xm_list_outputs >"$xm_local/outputs.$member" || {
            xm_states[member]=failed
            xm_reasons[member]="the outputs could not be read${xm_reasons[member]:+; ${xm_reasons[member]}}"
        }
        [[ -z $again ]] && xm_wants_again "${xm_states[member]}" "${xm_codes[member]}" && again=$member
    done
    if [[ -n $again ]]; then
        if xm_again; then
            xm_reasons[again]="${xm_reasons[again]:-its exit code was ${xm_codes[again]}}; it is started again"
            for ((member = 0; member < xm_members; member++)); do
                xm_states[member]=preempted
                xm_reasons[member]=${xm_reasons[member]:-it is started again with the rest of its group}
            done
        else
            xm_reasons[again]="${xm_reasons[again]:+${xm_reasons[again]}; }$xm_not_again"
        fi
    fi
    for ((member = 0; member < xm_members; member++)); do
        xm_take_member "$member"
        xm_write outputs.sha256 <"$xm_local/outputs.$member"
        xm_attested=${xm_images[member]}
        xm_write_end "${xm_states[member]}" "${xm_codes[member]}" "${xm_reasons[member]}"
        ((xm_members > 1)) || xm_forget_secrets "${xm_states[member]}"
    done
    if ((xm_members > 1)) && [[ ${xm_states[0]} != preempted ]]; then
        rm -rf -- "$xm_state/secrets/${xm_token:?}"
    fi
    xm_clean
    for ((member = 0; member < xm_members; member++)); do
        [[ ${xm_states[member]} == completed ]] && continue
        ((${xm_codes[member]:-0})) && exit "${xm_codes[member]}"
        exit 125
    done
    exit 0
}

# xm_judge_member MEMBER: sets its state, exit code, reason and image, and writes its facts.
xm_judge_member() {
    local member=$1 count=${xm_ranks[$1]} rank folder state worst= code= reason= image= first=
    {
        for ((rank = 0; rank < count; rank++)); do
            folder=$xm_dir/replicas/$rank
            state=$(xm_field state "$folder/end")
            ((rank)) || { [[ ! -r $folder/facts ]] || cat "$folder/facts"; image=$(xm_field image "$folder/end"); }
            if ((count > 1)); then
                xm_fact "replica_${rank}_state" "${state:-lost}"
                xm_fact "replica_${rank}_exit_code" "$(xm_field exit_code "$folder/end")"
                xm_fact "replica_${rank}_node" "$(xm_field node "$folder/facts")"
                xm_fact "replica_${rank}_cpu_model" "$(xm_field cpu_model "$folder/facts")"
                xm_fact "replica_${rank}_gpu_models" "$(xm_field gpu_models "$folder/facts")"
            fi
            [[ $state == completed ]] && continue
            # The first that failed by itself tells more than those that were ended for it.
            if [[ -z $worst || ( $worst == cancelled && ${state:-lost} != cancelled ) ]]; then
                worst=${state:-lost} first=$rank
            fi
        done
        ((count > 1)) && xm_fact replicas "$count"
    } >"$xm_local/facts"
    xm_write facts <"$xm_local/facts"
    xm_images[member]=$image
    if [[ -z $worst ]]; then
        # It may have ended by itself all the same after it was told that its time is nearly up.
        xm_states[member]=completed xm_codes[member]=0 xm_reasons[member]=
        [[ -n ${xm_interrupted-} ]] && xm_states[member]=$xm_interrupted xm_reasons[member]=$xm_why
        return
    fi
    folder=$xm_dir/replicas/$first
    code=$(xm_field exit_code "$folder/end") reason=$(xm_field reason "$folder/end")
    ((count > 1)) && reason="replica $first: ${reason:-exit code $code}"
    if [[ $worst == lost ]]; then
        worst=failed reason="process $first left no record: $(tail -n 1 "$xm_dir/replicas/said" 2>/dev/null | head -c 300)"
    fi
    if [[ -n ${xm_interrupted-} ]]; then worst=$xm_interrupted reason=$xm_why; fi
    xm_states[member]=$worst xm_codes[member]=$code xm_reasons[member]=$reason
}

# --- each process -------------------------------------------------------------------------------

xm_work() {
    xm_rank=${XM_RANK:-${SLURM_PROCID:-0}}
    xm_job=$XM_JOB xm_task=$XM_TASK xm_job_name=$XM_JOB_NAME
    xm_attempt=$xm_job_name.$xm_restarts
    # The leader decides.
    xm_again_codes= xm_again_on_timeout=
    xm_be_member "$XM_MEMBER"
    xm_run_dir=$xm_state/runs/$xm_token/$xm_task
    xm_dir=$XM_DIR/replicas/$xm_rank
    xm_now xm_started
    xm_go
}

# Files in place of signals: Slurm would send those to every process of a step, the command's too.
xm_watch_leader() {
    (
        trap '' TERM INT USR1 USR2
        told=
        while sleep 1 && kill -0 "$$"; do
            [[ -z $told && -e $XM_LEAD/near-limit ]] && told=1 && kill -USR2 "$$"
            [[ -e $XM_LEAD/stop ]] && kill -USR2 "$$" && break
        done
    ) </dev/null >/dev/null 2>&1 8>&- &
    xm_watcher=$!
    ((XM_COUNT > 1)) || return 0
    : >"$xm_dir/log"
    # What each prints, line by line, in the log of all.
    (
        trap '' TERM INT USR1 USR2
        me=$BASHPID
        tail -f -n +1 -s 0.2 --pid="$me" "$xm_dir/log" 2>/dev/null &
        while [[ ! -e $xm_dir/.printed ]]; do sleep 0.2; done
    ) </dev/null 8>&- | (
        trap '' TERM INT USR1 USR2
        exec sed -u "s/^/$xm_rank: /" >>"$XM_DIR/log"
    ) &
    xm_printer=$!
}

# Before the record is written: the log of all has everything, and the others know.
xm_leave_group() {
    # Those that were told of the time limit save what they have, each at its own pace.
    case $1 in completed | timeout | cancelled) ;; *) : >"$XM_LEAD/stop" ;; esac
    kill "$xm_watcher" 2>/dev/null
    [[ -n ${xm_printer-} ]] || return 0
    : >"$xm_dir/.printed"
    wait "$xm_printer"
    rm -f "$xm_dir/.printed"
}

xm_add_peers() {
    local line local_count=${XM_COUNT} all=()
    if [[ -n ${SLURM_STEP_TASKS_PER_NODE-} ]]; then
        # "2(x3),1": by the number of our node.
        line=$(awk -v node="${SLURM_NODEID:-0}" -v RS=, '{ n = $0; times = 1
            if (match(n, /\(x[0-9]+\)/)) { times = substr(n, RSTART + 2, RLENGTH - 3); n = substr(n, 1, RSTART - 1) }
            for (i = 0; i < times; i++) if (at++ == node) { print n + 0; exit } }' <<<"$SLURM_STEP_TASKS_PER_NODE")
        local_count=${line:-1}
    fi
    if ((XM_COUNT > 1)); then
        all+=("XMSLURM_REPLICA=$xm_rank" "XMSLURM_REPLICAS=$XM_COUNT" "RANK=$xm_rank" "WORLD_SIZE=$XM_COUNT"
            "LOCAL_RANK=${SLURM_LOCALID:-$xm_rank}" "LOCAL_WORLD_SIZE=$local_count" "NODE_RANK=${SLURM_NODEID:-0}"
            "MASTER_ADDR=$XM_ADDRESS" "MASTER_PORT=$XM_PORT"
            "XMSLURM_RENDEZVOUS_ADDRESS=$XM_ADDRESS" "XMSLURM_RENDEZVOUS_PORT=$XM_PORT")
    fi
    if ((xm_members > 1)); then
        all+=("XMSLURM_JOB_GROUP_INDEX=$XM_MEMBER" "XMSLURM_JOB_GROUP_NAME=${xm_names[XM_MEMBER]}"
            "XMSLURM_JOB_GROUP_SIZE=$xm_members")
        while IFS= read -r line; do [[ -z $line ]] || all+=("$line"); done <<<"$XM_PEERS"
    fi
    # What the manifest says wins.
    for line in "${all[@]}"; do
        [[ $'\n'$(printf '%s\n' "${xm_env[@]%%=*}")$'\n' == *$'\n'"${line%%=*}"$'\n'* ]] || xm_env+=("$line")
    done
}
