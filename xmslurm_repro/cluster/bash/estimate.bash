# When a job of this kind would start; submits nothing. On standard input a script that has the
# options. Prints the section `said` with the scheduler's words, and the clock's time in `now`.
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
cat >"$work/script"
date +%s >"$work/now"
scheduler_estimate "$work/script" >"$work/said" 2>&1
status=$?
section said "$work/said"
section now "$work/now"
exit "$status"
