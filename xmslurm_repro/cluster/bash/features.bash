# What containers may need of a machine. `fact` prints a line of an answer: name, 0 or 1, value.

fact() { printf 'fact\t%s\t%s\t%s\n' "$place$1" "$2" "${3//[[:cntrl:]]/ }"; }

features() {
    local user range
    user=$(id -un)
    fact host 1 "$(uname -nsr)"
    if unshare -U -r true 2>/dev/null; then
        fact 'user namespaces' 1 yes
    else
        fact 'user namespaces' 1 'no: bubblewrap, charliecloud and rootless podman need them'
    fi
    if [[ -r /dev/fuse && -w /dev/fuse ]]; then
        fact fuse 1 "yes$(command -v fusermount3 fusermount >/dev/null || printf ', without fusermount')"
    elif [[ -e /dev/fuse ]]; then
        fact fuse 1 'no: /dev/fuse is not for everybody'
    else
        fact fuse 1 'no'
    fi
    range=$(grep -s -m 1 -E "^($user|$UID):" /etc/subuid)
    if [[ -z $range ]]; then
        fact subuid 1 "none for $user in /etc/subuid: rootless podman needs them"
    elif ! command -v newuidmap >/dev/null; then
        fact subuid 1 "${range#*:}, without newuidmap"
    else
        fact subuid 1 "${range#*:}"
    fi
}
