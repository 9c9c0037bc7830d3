# Which blobs are missing. Arguments: the image manifest's digits, the text of the image layout's
# index. On standard input digits and size of blobs, a line each. Prints "me <name>", "free <bytes>",
# and for each that is missing "<digits> <bytes that came before>", or "<digits> busy" where somebody
# else is sending it. The others are this name's to send.
image=$1 index=$2
cd "$xm_state" && mkdir -p incoming || fail "nothing can be written to $xm_state"
if [[ ! -e images/$image/index.json ]]; then
    new=images/$image.new.$$
    mkdir -p "$new" && printf '{"imageLayoutVersion":"1.0.0"}' >"$new/oci-layout" &&
        printf '%s' "$index" >"$new/index.json" && ln -s ../../blobs "$new/blobs" ||
        { rm -rf -- "$new"; fail "nothing can be written to $xm_state/images"; }
    mv -T "$new" "images/$image" 2>/dev/null || rm -rf -- "$new"
fi
me=$HOSTNAME.$$.$RANDOM$RANDOM
printf 'me %s\nfree %s\n' "$me" "$(df -Pk . | awk 'NR == 2 { printf "%.0f", $4 * 1024 }')"

# The first to make a claim has it, for as long as it or what came moves.
claim() {  # DIGITS
    local file=incoming/$1.claim owner
    (set -C; printf '%s\n' "$me" >"$file") 2>/dev/null && return 0
    [[ -z $(find "$file" "incoming/$1" -mmin -1 -print -quit 2>/dev/null) ]] || return 1
    printf '%s\n' "$me" >"$file.$me" && mv -f "$file.$me" "$file" && read -r owner <"$file" && [[ $owner == "$me" ]]
}

mapfile -t wanted
declare -A sizes
while read -r size name; do sizes[${name##*/}]=$size; done < <(
    printf 'blobs/sha256/%s\0' "${wanted[@]%% *}" | xargs -0 -r stat -c '%s %n' -- 2>/dev/null)
for line in "${wanted[@]}"; do
    hex=${line%% *}
    [[ ${sizes[$hex]-} == "${line#* }" ]] && continue
    if claim "$hex"; then
        printf '%s %s\n' "$hex" "$(stat -c %s "incoming/$hex" 2>/dev/null || printf 0)"
    else
        printf '%s busy\n' "$hex"
    fi
done
find incoming -type f -mtime +7 -delete 2>/dev/null
exit 0
