# Common to everything we run on a login node.

set -u -o pipefail
export LC_ALL=C
umask 077
# The connection may go at any time; what has begun is brought to its end all the same.
trap '' PIPE HUP

# The state folder as the configuration says it, `~` being this user's home here.
state_dir() {
    case $1 in
        '~') printf '%s' "$HOME" ;;
        '~/'*) printf '%s' "$HOME/${1#'~/'}" ;;
        *) printf '%s' "$1" ;;
    esac
}

xm_state=$(state_dir "$1")
shift

# section NAME FILE: part of an answer, by name and length.
section() {
    printf '%s %s\n' "$1" "$(wc -c <"$2")"
    cat "$2"
}

fail() {
    printf 'xmslurm: %s\n' "$*" >&2
    exit 70
}
