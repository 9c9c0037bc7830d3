# Take blobs: on standard input lines "<digits> <size> <offset>", each followed by the bytes from
# there on. Arguments: the name that may send them, and the digits of all of them. Prints "<digits> ok" for each that is in place,
# "<digits> busy" where somebody else has taken over, or "<digits> <size read> <digits read>".
# What came of one that was cut off stays for the next time.
me=$1
shift
cd "$xm_state/incoming" || fail "there is no folder $xm_state/incoming"

ours=("$@")
mine() { local owner; read -r owner 2>/dev/null <"$1.claim" && [[ $owner == "$me" ]]; }

give_up() {
    kill "$keeper" 2>/dev/null
    for hex in "${ours[@]}"; do mine "$hex" && rm -f "$hex.claim"; done
}

# Claims are kept for as long as something comes.
(
    # Nothing ever comes from there: a pause that leaves no process behind.
    exec 9<> <(:)
    while ! read -r -t 20 -u 9; do
        [[ -n $(find "${ours[@]}" -mmin -1 -print -quit 2>/dev/null) ]] || continue
        for hex in "${ours[@]}"; do mine "$hex" && touch -c "$hex.claim"; done
    done
) </dev/null >/dev/null 2>&1 &
keeper=$!
trap give_up EXIT

full() {
    rm -f "$1"
    fail "there is no space left in $xm_state ($(df -Pm . | awk 'NR == 2 { print $4 }') MiB are free)"
}

while read -r hex size offset; do
    if ! mine "$hex" || [[ $(stat -c %s "$hex" 2>/dev/null || printf 0) != "$offset" ]]; then
        head -c "$((size - offset))" >/dev/null
        printf '%s busy\n' "$hex"
        continue
    fi
    : >>"$hex" || full "$hex"
    sum=$({ cat "$hex"; head -c "$((size - offset))" | tee -a "$hex"; } | sha256sum) || full "$hex"
    sum=${sum%% *}
    got=$(stat -c %s "$hex")
    # The rest of the stream has the rest of it, if there is any.
    mine "$hex" || { printf '%s busy\n' "$hex"; continue; }
    if ((got < size)); then exit 74; fi
    if [[ $sum == "$hex" ]]; then
        chmod 444 "$hex" && sync "$hex" && mv -f "$hex" "../blobs/sha256/$hex" || full "$hex"
        rm -f "$hex.claim"
        printf '%s ok\n' "$hex"
    else
        rm -f "$hex"
        printf '%s %s %s\n' "$hex" "$got" "$sum"
    fi
done
exit 0
