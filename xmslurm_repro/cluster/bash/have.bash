# Which blobs are missing. Arguments: the image manifest's digits, the text of the image layout's
# index. On standard input digits of blobs, a line each; those missing are printed.
image=$1 index=$2
cd "$xm_state" || fail "there is no folder $xm_state"
if [[ ! -e images/$image/index.json ]]; then
    new=images/$image.new.$$
    mkdir -p "$new" && printf '{"imageLayoutVersion":"1.0.0"}' >"$new/oci-layout" &&
        printf '%s' "$index" >"$new/index.json" && ln -s ../../blobs "$new/blobs" ||
        fail "nothing can be written to $xm_state/images"
    mv -T "$new" "images/$image" 2>/dev/null || rm -rf -- "$new"
fi
while read -r hex; do [[ -e blobs/sha256/$hex ]] || printf '%s\n' "$hex"; done
exit 0
