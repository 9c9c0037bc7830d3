# Starting again: after a chosen exit code, or before the time limit.

: "${xm_again_codes=}" "${xm_again_on_timeout=}" "${xm_again_most=}" "${xm_timeout_signal=}" "${xm_timeout_grace=0}"
xm_restarts=${SLURM_RESTART_COUNT:-${XM_RESTART_COUNT:-0}}

# Sent to this shell alone, before the limit, because we asked for it. The command gets the signal
# that was chosen, and most of the time that is left: its outputs are still to be read.
xm_on_near_limit() {
    if [[ -n ${XM_MEMBER-} && -e $XM_LEAD/stop ]]; then
        xm_on_stop
        return
    fi
    [[ -n ${xm_interrupted-} ]] && return
    [[ -n $xm_timeout_signal ]] || { xm_pass_on USR2; return; }
    xm_interrupted=timeout xm_is_early=1 xm_why='its time limit was near'
    xm_left_tenths=$((xm_timeout_grace * 7))
    [[ -n ${xm_container-} ]] || xm_finish timeout '' "$xm_why"
    xm_forward "$xm_timeout_signal"
}

# Another process of the job has failed, or the leader was told to end.
xm_on_stop() {
    [[ -n ${xm_interrupted-} && -z ${xm_is_early-} ]] && return
    xm_is_early= xm_left_tenths=$((xm_grace_seconds * 10))
    xm_interrupted=cancelled xm_why='another process of the job did not end well'
    [[ -n ${xm_container-} ]] || xm_finish cancelled '' "$xm_why"
    xm_forward TERM
}

# A signal that means nothing to us.
xm_pass_on() { [[ -z ${xm_container-} ]] || xm_forward "$1"; }

# xm_wants_again STATE CODE
xm_wants_again() {
    case $1 in failed | timeout | out-of-memory) ;; *) return 1 ;; esac
    [[ -n $2 && " $xm_again_codes " == *" $2 "* ]] && return 0
    [[ $1 == timeout && -n $xm_again_on_timeout ]]
}

# Ask for another start. What we leave is written after the answer, which ends this job: within
# the time between the two signals.
xm_again() {
    if [[ -n $xm_again_most ]] && ((xm_restarts >= xm_again_most)); then
        xm_not_again="it was started again $xm_restarts times, which is the limit"
        ((xm_restarts != 1)) || xm_not_again='it was started again once, which is the limit'
        return 1
    fi
    if [[ -n ${SLURM_JOB_ID-} ]]; then
        timeout 60 scontrol requeue "${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}" 2>"$xm_local/why" && return 0
        xm_not_again="it could not be started again: $(tail -n 1 "$xm_local/why" | head -c 300)"
        return 1
    fi
    : >"$xm_state/local/$xm_job/again.${XM_TASK_ID:-0}"
}

# From here on nobody else may start it again either, where that was the last time.
xm_limit_restarts() {
    [[ -n $xm_again_most && -n ${SLURM_JOB_ID-} ]] && ((xm_restarts >= xm_again_most)) || return 0
    timeout 60 scontrol update JobId="${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}" Requeue=0 >&2
}

# A job that asks to be started again goes on from what it left: the outputs of the attempt before
# are copied, so that its record stays as it is.
xm_carry_on() {
    local before
    ((xm_restarts)) && [[ -n $xm_again_codes$xm_again_on_timeout ]] || return 0
    for ((before = xm_restarts - 1; before >= 0; before--)); do
        [[ -d $xm_run_dir/$xm_job_name.$before/outputs ]] || continue
        cp -a --reflink=auto "$xm_run_dir/$xm_job_name.$before/outputs/." "$xm_dir/outputs/" ||
            xm_finish failed '' "the outputs of attempt $xm_job_name.$before could not be copied"
        xm_carried=$xm_job_name.$before
        return
    done
}
