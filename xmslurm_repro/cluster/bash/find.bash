# Which submissions arrived. Tokens on standard input, a line each. Prints "<token> <job id>" for
# those that did; submits nothing.

prefix=$1
while read -r token; do
    folder=$xm_state/submit/$token
    [[ -e $folder/tried || -s $folder/jobid ]] || continue
    exec 9>"$folder/lock"
    # Whoever is still submitting it holds this lock.
    flock -w 90 9 2>/dev/null
    id=
    [[ -s $folder/jobid ]] && read -r id <"$folder/jobid"
    [[ -n $id ]] || id=$(cat "$xm_state/runs/$token"/*/claim 2>/dev/null | sort -n | head -n 1)
    if [[ -z $id ]]; then
        id=$(scheduler_find "$prefix$token") || exit 69
        [[ -n $id ]] && printf '%s\n' "$id" >"$folder/jobid.new" && mv -f "$folder/jobid.new" "$folder/jobid"
    fi
    [[ -n $id ]] && printf '%s %s\n' "$token" "$id"
    exec 9>&-
done
exit 0
