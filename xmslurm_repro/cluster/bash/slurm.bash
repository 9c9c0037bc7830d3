# What we ask of Slurm. Only commands and options that are the same from 20.11 to 26.05.

# Sites that keep Slurm in a folder of its own often put it on the path in a profile, which a
# command over SSH does not read.
if ! command -v sbatch >/dev/null && [[ -r /etc/profile ]]; then
    xm_path=$PATH
    set +u
    . /etc/profile >/dev/null 2>&1
    set -u
    PATH=$PATH:$xm_path
fi

# Lists of array tasks are cut short after 64 bytes otherwise.
export SLURM_BITSTR_LEN=0

# What reaches sbatch reaches the job, and SBATCH_* variables would change it unseen. TMPDIR of a
# login node is often nothing on others.
slurm_clean() {
    env -i PATH="$PATH" HOME="$HOME" USER="${USER:-$(id -un)}" LOGNAME="${LOGNAME:-$(id -un)}" \
        SHELL=/bin/bash ${SLURM_CONF:+SLURM_CONF="$SLURM_CONF"} \
        ${SLURM_CONF_SERVER:+SLURM_CONF_SERVER="$SLURM_CONF_SERVER"} \
        ${LD_LIBRARY_PATH:+LD_LIBRARY_PATH="$LD_LIBRARY_PATH"} "$@"
}

scheduler_submit() {  # SCRIPT NAME TASKS LIMIT
    local id
    id=$(cd / && slurm_clean timeout "${xm_sbatch_seconds:-60}" sbatch --parsable "$1") || return
    printf '%s\n' "${id%%;*}"
}

scheduler_find() {  # NAME
    local ids
    timeout 20 scontrol ping 2>/dev/null | grep -q UP || return 1
    ids=$(timeout 60 squeue -h --me -t all --name="$1" -o %F) || return 1
    if [[ -z $ids ]]; then
        # Accounting is missing on some sites and away at times. Then squeue alone must do: it
        # knows a job from the moment of submission to MinJobAge after its end.
        ids=$(timeout 60 sacct -n -X -P -S now-30days --name="$1" -o JobID 2>/dev/null) || ids=
    fi
    printf '%s\n' "$ids" | sed 's/[_+].*//' | grep -E '^[0-9]+$' | sort -n | head -n 1
    return 0
}

scheduler_states() { timeout 60 squeue -h --me -r -t all -o '%i|%T|%j|%r'; }

scheduler_history() {  # NAME,NAME…
    timeout 60 sacct -n -X -P -S now-30days --name="$1" -o JobID,State,JobName
}

scheduler_alive() {  # NAME TASK
    local lines line
    lines=$(timeout 60 squeue -h --me -r --name="$1" -o '%i') || return 2
    for line in $lines; do [[ $line == "${line%%[_+]*}" || $line == *[_+]"$2" ]] && return 0; done
    return 1
}

scheduler_living() {  # NAME…
    local rows name id
    rows=$(timeout 60 squeue -h --me -r --name="$(IFS=, && printf '%s' "$*")" -o '%j %i') || return 2
    while read -r name id; do
        case $id in *[_+]*) id=${id##*[_+]} ;; *) id=0 ;; esac
        printf '%s %s\n' "$name" "$id"
    done <<<"$rows"
}

scheduler_cancel() {
    local out
    # "Invalid job id" and "already completing or completed" are what we want.
    out=$(timeout 60 scancel "$@" 2>&1) && return 0
    out=$(printf '%s\n' "$out" | grep -v -e 'Invalid job id' -e 'already completing or completed')
    [[ -z $out ]] && return 0
    printf '%s\n' "$out" >&2
    return 1
}

scheduler_estimate() {  # SCRIPT
    cd / && slurm_clean env TZ=UTC timeout 60 sbatch --test-only "$1"
}

# An array's indexes are below MaxArraySize. Each task counts as a job of the user's, in the
# association (which has the limits of those above it) and in the QOS.
scheduler_limits() {  # ACCOUNT PARTITION QOS
    local user account=$1 partition=$2 qos=$3 default its_account its_partition limit its_qos name mine all config enforced
    config=$(timeout 20 scontrol show config 2>/dev/null)
    sed -n 's/^MaxArraySize *= *//p' <<<"$config"
    enforced=$(sed -n 's/^AccountingStorageEnforce *= *//p' <<<"$config")
    [[ ,$enforced, == *,limits,* || ,$enforced, == *,safe,* || ,$enforced, == *,all,* ]] || return 0
    user=$(id -un)
    # Both are asked at once: the accounting service takes its time.
    exec {mine}< <(timeout 10 sacctmgr -n -P show user "$user" withassoc format=DefaultAccount,Account,Partition,MaxSubmitJobs,DefaultQOS 2>/dev/null)
    exec {all}< <(timeout 10 sacctmgr -n -P show qos format=Name,MaxSubmitJobsPerUser 2>/dev/null)
    while IFS='|' read -r default its_account its_partition limit its_qos; do
        [[ $its_account == "${account:-$default}" ]] || continue
        [[ -z $its_partition || $its_partition == "$partition" ]] || continue
        printf '%s\n' "$limit"
        : "${qos:=$its_qos}"
    done <&"$mine"
    while IFS='|' read -r name limit; do
        [[ $name == "${qos:-normal}" ]] && printf '%s\n' "$limit"
    done <&"$all"
    return 0
}

# How long a job has between SIGTERM and SIGKILL.
scheduler_grace() {
    local wait
    wait=$(timeout 20 scontrol show config 2>/dev/null | sed -n 's/^KillWait *= *\([0-9]*\).*/\1/p')
    printf '%s' "${wait:-30}"
}
