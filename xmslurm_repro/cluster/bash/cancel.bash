# Cancel jobs. Ids are the arguments. That we did is noted: Slurm forgets array tasks that never
# began at once, and other jobs after a while.
scheduler_cancel "$@" || exit 1
mkdir -p "$xm_state/cancelled"
for id; do printf '%s\n' "$id" >>"$xm_state/cancelled/${id%%[_+]*}"; done
