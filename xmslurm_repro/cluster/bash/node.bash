# On a compute node, in a job of its own: `REGISTRY` is host:port or nothing, `STATE` our folder.
set -u
export LC_ALL=C
place='node: '
features
[[ -w $STATE ]] && fact 'state folder' 1 "$STATE" || fact 'state folder' 0 "$STATE cannot be written to from here"
fact 'free space' 1 "$(df -Pm "${TMPDIR:-/tmp}" | awk 'NR == 2 { print $4 }') MiB in ${TMPDIR:-/tmp}"
if [[ -n $REGISTRY ]]; then
    if timeout 10 bash -c 'exec 3<>"/dev/tcp/${0%:*}/${0##*:}"' "$REGISTRY" 2>/dev/null; then
        fact registry 1 "$REGISTRY answers"
    else
        fact registry 0 "$REGISTRY cannot be reached: leave out \`registry\`, and images are sent over the connection"
    fi
fi
works=0 lines=()
try() {  # NAME COMMANDS
    local out
    if out=$(timeout 30 bash --norc --noprofile -c "$2" 2>&1); then
        works=1 lines+=("$1" "$(tail -n 1 <<<"$out")")
    else
        lines+=("$1" "no: $(tail -n 1 <<<"$out" | head -c 300)")
    fi
}
