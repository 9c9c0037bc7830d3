# Take blobs: on standard input lines "<digits> <size>", each followed by that many bytes.
# Prints "<digits> ok" for each that is in place, or "<digits> <size read> <digits read>".
cd "$xm_state/blobs/sha256" || fail "there is no folder $xm_state/blobs/sha256"
trap 'rm -f ".new.$$"' EXIT
while read -r hex size; do
    sum=$(head -c "$size" | tee ".new.$$" | sha256sum)
    sum=${sum%% *}
    got=$(stat -c %s ".new.$$")
    if [[ $sum == "$hex" && $got == "$size" ]]; then
        chmod 444 ".new.$$" && sync ".new.$$" && mv -f ".new.$$" "$hex" || fail "$xm_state/blobs cannot be written"
        printf '%s ok\n' "$hex"
    else
        printf '%s %s %s\n' "$hex" "$got" "$sum"
        ((got < size)) && exit 74
    fi
done
exit 0
