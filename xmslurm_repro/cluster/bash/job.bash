# The job. Everything above this line was written for this submission; from here on the text is
# the same in every job. It needs bash, coreutils, findutils, tar, gzip and the container runtime.
#
# An attempt owns one folder, runs/<token>/<task>/<job id>.<restart count>, and writes `end` into
# it last. Nothing outside that folder is changed but caches, which are renamed into place whole.

set -u -o pipefail
export LC_ALL=C TZ=UTC
umask 022
xm_page_bytes=$(getconf PAGESIZE 2>/dev/null) || xm_page_bytes=4096
xm_path=$PATH
unset -v CDPATH GLOBIGNORE BASH_ENV ENV TAR_OPTIONS GZIP POSIXLY_CORRECT

xm_say() { printf 'xmslurm: %s\n' "$*" >&2; }

xm_now() { printf -v "$1" '%(%Y-%m-%dT%H:%M:%SZ)T' -1; }

xm_identify() {
    xm_job=${SLURM_ARRAY_JOB_ID:-${SLURM_JOB_ID:-${XM_JOB_ID:?this is no job}}}
    xm_task=${SLURM_ARRAY_TASK_ID:-${XM_TASK_ID:-0}}
    xm_job_name=$xm_job
    ((xm_task_count > 1)) && xm_job_name=${xm_job}_$xm_task
    xm_attempt=$xm_job_name.$xm_restarts
    xm_run_dir=$xm_state/runs/$xm_token/$xm_task
    xm_dir=$xm_run_dir/$xm_attempt
}

# Of two jobs of one submission (a submission repeated although the first had arrived) one runs.
# A hard link is made by exactly one of them, on NFS too.
xm_claim() {
    local owner
    mkdir -p "$xm_run_dir" || return 1
    printf '%s\n' "$xm_job" >"$xm_run_dir/claim.$xm_attempt" || return 1
    ln "$xm_run_dir/claim.$xm_attempt" "$xm_run_dir/claim" 2>/dev/null
    rm -f "$xm_run_dir/claim.$xm_attempt"
    read -r owner <"$xm_run_dir/claim" || return 1
    [[ $owner == "$xm_job" ]] && return 0
    xm_say "job $xm_job_name steps aside: it is a duplicate of job $owner"
    exit 0
}
