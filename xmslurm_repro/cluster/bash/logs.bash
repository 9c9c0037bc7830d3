# Print what a run's command printed. Arguments: job name, token, task, attempt (or nothing for
# the newest), 1 to follow. Following ends with the run and goes on into the attempt after a
# requeue. It looks once a second, and five times in the first seconds, when people are watching.
name=$1 token=$2 task=$3 attempt=$4 follow=$5
run=$xm_state/runs/$token/$task
trap - PIPE HUP

newest() { [[ -d $run ]] && (cd "$run" && printf '%s\n' */ | grep -E '^[0-9_+]+\.[0-9]+/$' | tr -d / | sort -t . -k1,1V -k2,2n | tail -n 1); }

# Whether the run may still print something.
goes_on() {
    local state=
    if [[ -n $now && -e $run/$now/end ]]; then
        state=$(sed -n 's/^state=//p' "$run/$now/end")
        case $state in cancelled | timeout | preempted) ;; *) return 1 ;; esac
    fi
    scheduler_alive "$name" "$task"
    [[ $? != 1 ]]
}

now=${attempt:-$(newest)} offset=0 tick=0 quiet=0
while :; do
    ended=0
    [[ -n $now && -e $run/$now/end ]] && ended=1
    if [[ -n $now && -r $run/$now/log ]]; then
        size=$(stat -c %s "$run/$now/log")
        if ((size > offset)); then
            tail -c "+$((offset + 1))" "$run/$now/log" | head -c "$((size - offset))"
            # Where the log has grown since, tail is cut short; where nobody listens any more, head.
            ((PIPESTATUS[1] == 0)) || exit 0
            offset=$size
        fi
    fi
    ((follow)) || exit 0
    if [[ -n $attempt ]]; then
        ((ended)) && exit 0
    else
        next=$(newest)
        if [[ -n $next && $next != "$now" ]]; then
            now=$next offset=0
            continue
        fi
    fi
    # The scheduler is asked when there is an end, and every ten seconds in case there never is.
    if ((ended || tick % 10 == 9)) && ! goes_on; then
        # Once more, for what came between the two looks.
        ((quiet++)) && exit 0
        continue
    fi
    quiet=0 tick=$((tick + 1))
    ((SECONDS < 8)) && sleep 0.2 || sleep 1
done
