# Outputs of many attempts, as their bytes are. On standard input a line for each: token, task,
# attempt, f or l, from which byte on, path in octal escapes. Answers in the same order with frames:
# a line with the number of bytes ("-" if there is no such file), then so many.
trap - PIPE HUP
cd "$xm_state/runs" || fail "there is no folder $xm_state/runs"
while read -r token task attempt kind offset path; do
    path=$(printf '%bx' "$path")
    path=$token/$task/$attempt/outputs/${path%x}
    size=$(stat -c %s "$path" 2>/dev/null) && [[ $kind == l || -r $path ]] || { printf -- '-\n'; continue; }
    left=$((size > offset ? size - offset : 0))
    printf '%s\n' "$left"
    if [[ $kind == l ]]; then
        find "$path" -maxdepth 0 -printf '%l' | tail -c "+$((offset + 1))"
    else
        tail -c "+$((offset + 1))" "$path" | head -c "$left"
    fi
done
exit 0
