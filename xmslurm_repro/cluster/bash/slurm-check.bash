# What `clusters check` and `clusters show` tell of Slurm. Only commands, options and names of
# fields that are the same from 20.11 to 26.05.

scheduler_check() {  # OPTIONS_OF_A_JOB
    local line
    line=$(timeout 20 sbatch --version 2>&1) && fact scheduler 1 "$line" || fact scheduler 0 "sbatch: $line"
    line=$(timeout 20 scontrol ping 2>&1 | head -n 1)
    [[ $line == *UP* ]] && fact controller 1 "$line" || fact controller 0 "$line"
    if line=$(timeout 20 sacct -n -X -S now -o JobID 2>&1 >/dev/null) && [[ -z $line ]]; then
        fact accounting 1 'sacct answers'
    else
        fact accounting 1 "not usable (${line##*error: }); runs are followed by their own records"
    fi
    slurm_test "$@"
    scheduler_charges
}

# Whether a job with the cluster's own options would be taken, by Slurm's own word.
slurm_test() {
    local line
    if line=$(cd / && slurm_clean timeout 30 sbatch --test-only "$@" --wrap=true 2>&1); then
        line=$(grep -m 1 'to start at' <<<"$line")
        fact 'a job' 1 "would be taken${line:+: ${line#sbatch: }}"
    else
        fact 'a job' 0 "would be refused: $(sed -n 's/^[a-z]*: error: //p' <<<"$line" | tail -n 1)"
    fi
}

scheduler_charges() {
    slurm_partitions
    slurm_accounts
    slurm_qos
    timeout 20 scontrol show config 2>/dev/null | while read -r name _ value; do
        case $name in
            MaxArraySize) fact "limit $name" 1 "$value (longer sweeps are split)" ;;
            MaxJobCount | MinJobAge | KillWait) fact "limit $name" 1 "$value" ;;
        esac
    done
}

slurm_partitions() {
    local name up limit nodes cpus memory gres text
    timeout 20 sinfo -h -o '%P|%a|%l|%D|%c|%m|%G' 2>&1 | while IFS='|' read -r name up limit nodes cpus memory gres; do
        [[ -n $gres ]] || { fact partitions 0 "$name"; continue; }
        text="$up, at most $limit, nodes: $nodes with $cpus CPUs and $memory MiB"
        [[ $gres == '(null)' ]] || text+=", $gres"
        [[ $name == *'*' ]] && text+=' (the default)'
        fact "partition ${name%'*'}" 1 "$text"
    done
}

# The associations of this user: whom a job may be charged to, and how much at once.
slurm_accounts() {
    local rows default account partition qos jobs submit wall
    rows=$(timeout 20 sacctmgr -n -P show user "$(id -un)" withassoc \
        format=DefaultAccount,Account,Partition,QOS,MaxJobs,MaxSubmitJobs,MaxWall 2>/dev/null)
    if [[ -z $rows ]]; then
        fact accounts 1 'none of your own, or no accounting'
        return
    fi
    while IFS='|' read -r default account partition qos jobs submit wall; do
        [[ -n $account ]] || continue
        fact "account $account" 1 "$(slurm_words "${partition:+in $partition}" "qos $qos" \
            "${jobs:+at most $jobs running}" "${submit:+at most $submit submitted}" \
            "${wall:+at most $wall each}" \
            "$([[ $account == "$default" ]] && echo 'the default')")"
    done <<<"$rows"
}

slurm_qos() {
    local name jobs submit wall
    timeout 20 sacctmgr -n -P show qos format=Name,MaxJobsPerUser,MaxSubmitJobsPerUser,MaxWall 2>/dev/null |
        while IFS='|' read -r name jobs submit wall; do
            [[ -n $jobs$submit$wall ]] || continue
            fact "qos $name" 1 "$(slurm_words "${jobs:+at most $jobs running}" \
                "${submit:+at most $submit submitted}" "${wall:+at most $wall each}")"
        done
}

# Those words that are not empty, with commas between.
slurm_words() {
    local word text=
    for word; do [[ -n $word ]] && text+="${text:+, }$word"; done
    printf '%s' "$text"
}

# Run a script as a job, and print what it printed; give up after so many seconds.
scheduler_probe() {  # SCRIPT SECONDS OPTIONS_OF_A_JOB
    local script=$1 seconds=$2 id state
    shift 2
    id=$(cd / && slurm_clean timeout 60 sbatch --parsable --job-name=xmslurm-check --time=5 \
        --ntasks=1 --no-requeue --output="$script.out" --open-mode=truncate "$@" "$script" 2>&1) ||
        { printf '%s\n' "${id##*error: }" >&2; return 1; }
    id=${id##*$'\n'} id=${id%%;*}
    while ((seconds-- > 0)); do
        [[ -e $script.done ]] && { cat "$script.out"; return 0; }
        sleep 1
    done
    state=$(timeout 20 squeue -h -j "$id" -o '%T, %r' 2>&1)
    timeout 20 scancel "$id" 2>/dev/null
    printf 'job %s did not end in time: %s\n' "$id" "$state" >&2
    return 1
}
