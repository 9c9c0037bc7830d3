# Keep a submission's secrets. Arguments: token, prefix of job names. On standard input NAME=value,
# each ended by NUL, and a lone dot at the end: half of it is none of it.
token=$1 prefix=$2
fields=() whole=
while IFS= read -r -d '' field; do
    [[ $field == . ]] && { whole=1; break; }
    fields+=("$field")
done
[[ -n $whole ]] || exit 74
[[ -s $xm_state/submit/$token/jobid ]] && exit 0
cd "$xm_state" && mkdir -p secrets && chmod 700 secrets || fail "nothing can be written to $xm_state"
[[ ! -L secrets && -O secrets ]] || fail "$xm_state/secrets belongs to somebody else"

# Those whose jobs were never submitted, or which nobody asked for since they ended.
while IFS= read -r -d '' old; do
    scheduler_alive "$prefix${old##*/}" 0
    [[ $? == 1 ]] && rm -rf -- "$old"
done < <(find secrets -mindepth 1 -maxdepth 1 -type d -mtime +0 -print0)

new=secrets/$token.new.$$
trap 'rm -rf "$new"' EXIT
mkdir -m 700 "$new" || fail "nothing can be written to $xm_state/secrets"
# noclobber opens with O_EXCL.
(set -C; printf '%s\0' "${fields[@]}" >"$new/values") && sync "$new/values" || fail "$xm_state/secrets cannot be written"
[[ $(stat -c %a "$new/values") == 600 ]] || fail "$xm_state is on a file system that keeps no permissions"
rm -rf -- "secrets/$token"
mv -T "$new" "secrets/$token" || fail "$xm_state/secrets cannot be written"
exit 0
