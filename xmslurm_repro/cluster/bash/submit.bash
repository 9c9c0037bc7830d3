# Submit once. Arguments: token, name, tasks, limit, for how many seconds a controller may still be
# busy with an earlier try of which we do not know what became, then length and SHA-256 of the script, of the
# task records and of the task index, which come on standard input in this order.
#
# Answers with sections: `job` (the id), or `status`, `stderr` of the scheduler's reply.

token=$1 name=$2 tasks=$3 limit=$4 settle=$5
shift 5
folder=$xm_state/submit/$token
mkdir -p "$folder" "$xm_state/runs/$token" || fail "nothing can be written to $xm_state"
in=$folder/in.$$
mkdir -p "$in" && trap 'rm -rf "$in"' EXIT

for part in script tasks tasks.index; do
    head -c "$1" >"$in/$part"
    sum=$(sha256sum <"$in/$part")
    # Half of it came: nothing was submitted, and nothing will be.
    [[ $(wc -c <"$in/$part") == "$1" && ${sum%% *} == "$2" ]] || exit 74
    shift 2
done

if ! { exec 9>"$folder/lock" && flock -w 90 9; } 2>/dev/null; then
    if command -v flock >/dev/null && flock -n "$in/script" true 2>/dev/null; then
        exit 75 # somebody else is at it
    fi
    # No locks on this file system: a folder is made by one of us only.
    for ((i = 0; ; i++)); do
        mkdir "$folder/lock.d" 2>/dev/null && break
        [[ -n $(find "$folder/lock.d" -maxdepth 0 -mmin +10 2>/dev/null) ]] && rmdir "$folder/lock.d"
        ((i < 90)) || exit 75
        sleep 1
    done
    trap 'rm -rf "$in"; rmdir "$folder/lock.d"' EXIT
fi

accepted() {
    printf '%s\n' "$1" >"$in/jobid" && sync "$in/jobid" 2>/dev/null
    mv -f "$in/jobid" "$folder/jobid"
    section job "$folder/jobid"
    exit 0
}

[[ -s $folder/jobid ]] && { section job "$folder/jobid"; exit 0; }
if [[ -e $folder/tried ]]; then
    id=$(cat "$xm_state/runs/$token"/*/claim 2>/dev/null | sort -n | head -n 1)
    [[ -n $id ]] || id=$(scheduler_find "$name") || exit 69
    if [[ -z $id ]] && ((settle)); then
        sleep "$settle"
        id=$(scheduler_find "$name") || exit 69
    fi
    [[ -n $id ]] && accepted "$id"
fi

mv -f "$in/tasks" "$in/tasks.index" "$in/script" "$folder/" || fail "nothing can be written to $folder"
printf '%s\n' "$name" >"$folder/tried" && sync "$folder/tried" "$folder" 2>/dev/null
id=$(scheduler_submit "$folder/script" "$name" "$tasks" "$limit" 2>"$in/stderr")
status=$?
if ((status == 0)) && [[ $id =~ ^[0-9]+$ ]]; then accepted "$id"; fi
((status == 0)) && status=1
printf '%s' "$status" >"$in/status"
section status "$in/status"
section stderr "$in/stderr"
