# What became of runs. Tokens on standard input, a line each. Answers with the section `states`
# (of the scheduler, asked first: a job that it calls ended has left its record by then), then
# `trouble` (why it did not answer), `cancelled` (ids that we cancelled), then a tar of the records.
work=$(mktemp -d) || fail "there is no space left in ${TMPDIR:-/tmp}"
trap 'rm -rf "$work"' EXIT
# Half an answer would say of runs that nobody knows them any more.
cat >"$work/tokens" && printf '%131072s' >"$work/room" && rm "$work/room" || fail "there is no space left in ${work%/*}"
scheduler_states "$work/tokens" >"$work/states" 2>"$work/trouble" && : >"$work/trouble"
section states "$work/states"
section trouble "$work/trouble"
while read -r token; do
    [[ -r $xm_state/submit/$token/jobid ]] && read -r id <"$xm_state/submit/$token/jobid" &&
        [[ -r $xm_state/cancelled/$id ]] && printf '%s\n' "$(<"$xm_state/cancelled/$id")"
done <"$work/tokens" >"$work/cancelled"
section cancelled "$work/cancelled"
while read -r token; do
    [[ $token =~ ^[a-z0-9]+$ && -d $xm_state/secrets/$token ]] && printf '%s\n' "$token"
done <"$work/tokens" >"$work/secrets"
section secrets "$work/secrets"
cd "$xm_state/runs" || fail "there is no folder $xm_state/runs"
while read -r token; do
    [[ $token =~ ^[a-z0-9]+$ && -d $token ]] && printf '%s\0' "$token"
done <"$work/tokens" |
    xargs -0 -r -I{} find {} -mindepth 2 -maxdepth 3 \
        \( -type d ! -name outputs -o -type f \( -name facts -o -name end -o -name outputs.sha256 \) \) -print0 |
    tar -c --no-recursion --null --verbatim-files-from -T - -f - 2>/dev/null
exit 0
