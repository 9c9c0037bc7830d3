# The same on a compute node, by a tiny job. Arguments: seconds to wait, then options of a job. The
# job's script comes on standard input.
seconds=$1
shift
place=
script=$xm_state/check.$$
trap 'rm -f "$script" "$script.out" "$script.done"' EXIT
{ printf '#!/bin/bash\ntrap %q EXIT\n' ": >'$script.done'"; cat; } >"$script" || fail "nothing can be written to $xm_state"
said=$(scheduler_probe "$script" "$seconds" "$@" 2>"$script.err") ||
    fact 'a job' 0 "did not run: $(tail -n 1 "$script.err")"
rm -f "$script.err"
printf '%s\n' "$said" | grep -a '^fact'
exit 0
