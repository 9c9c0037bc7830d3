# What inputs are. On standard input name and path of each, ended by NUL. Prints for each
# "ok <kind> <digest>" or "no <why>", a line each.
cd "$xm_state" || fail "there is no folder $xm_state"
xm_work=$(mktemp -d) && trap 'rm -rf "$xm_work"' EXIT
while IFS= read -r -d '' path; do
    if xm_measure "$path"; then
        printf 'ok %s %s\n' "$xm_kind" "$xm_digest"
    else
        printf 'no %s\n' "${xm_why//[[:cntrl:]]/ }"
    fi
done
exit 0
