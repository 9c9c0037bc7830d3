# The lists of outputs of many attempts. On standard input a line for each: token, task, attempt.
# Answers in the same order with sections: `list` and its length, `none` where there is none.
cd "$xm_state/runs" || fail "there is no folder $xm_state/runs"
while read -r token task attempt; do
    list=$token/$task/$attempt/outputs.sha256
    if [[ -r $list ]]; then section list "$list"; else printf 'none 0\n'; fi
done
exit 0
