# Print what the commands of many runs printed. Arguments: 1 to follow; how many of the last lines,
# or nothing for all. On standard input a line for each run: token, task, attempt ("-" for the
# newest), and where to go on: an attempt ("-" for the beginning) and a number of bytes.
#
# Answers with frames: a line "token task attempt place bytes", then so many bytes. Following ends with the
# runs, goes on into the attempt after a requeue, and begins again where a log became shorter. One
# listing of all folders is made at a time, once a second; five times in the first seconds of a few
# runs, when people are watching. The scheduler is asked when there is an end that might be none,
# and every ten seconds in case there never is: once for all.
follow=$1 last=$2
trap - PIPE HUP

declare -A fixed now offset inode over absent names shown
keys=() tokens=()
while read -r token task attempt from at; do
    [[ -n $at ]] || continue
    key=$token/$task
    keys+=("$key") fixed[$key]=${attempt#-} now[$key]=${from#-} offset[$key]=$at
    # Whoever goes on has had the last lines.
    [[ $from == - ]] || shown[$key]=1
    [[ -n ${names[$token]-} ]] || { names[$token]=1 tokens+=("$token"); }
done
mkdir -p "$xm_state/runs" && cd "$xm_state/runs" || fail "there is no folder $xm_state/runs"
quick=$((${#keys[@]} <= 8))

declare -A size number newest ended
list() {
    local name bytes index path attempt key
    size=() number=() newest=() ended=()
    while read -r name bytes index path; do
        attempt=${path%/*}
        key=${attempt%/*}
        case $name in
            end) ended[$attempt]=1 ;;
            log)
                size[$attempt]=$bytes number[$attempt]=$index
                is_newer "${attempt##*/}" "${newest[$key]-}" && newest[$key]=${attempt##*/}
                ;;
        esac
    done < <(find "${tokens[@]}" -mindepth 3 -maxdepth 3 -type f \( -name log -o -name end \) \
        -printf '%f %s %i %p\n' 2>/dev/null)
}

# Attempts are "<job>.<restart>", and "<job>_<task>.<restart>" in arrays.
is_newer() {
    [[ -n $2 ]] || return 0
    local one=${1%%[_+.]*} two=${2%%[_+.]*}
    ((one != two)) && { ((one > two)); return; }
    ((${1##*.} > ${2##*.}))
}

# The bytes of a log between two places. Exactly so many, also if it is cut in this moment: what
# is missing comes as zeros.
part() { { tail -c "+$(($2 + 1))" "$1" | head -c "$3"; head -c "$3" /dev/zero; } 2>/dev/null | head -c "$3"; }

show() {  # KEY
    local key=$1 attempt=${now[$1]} path bytes from=${offset[$1]} skip
    path=$key/$attempt
    bytes=${size[$path]-}
    [[ -n $bytes ]] || return 1
    if ((bytes < from)) || [[ -n ${inode[$key]-} && ${inode[$key]} != "${number[$path]}" ]]; then
        from=0
    fi
    inode[$key]=${number[$path]} offset[$key]=$bytes
    ((bytes > from)) || return 1
    if [[ -n $last && -z ${shown[$key]-} ]]; then
        skip=$(head -c "$bytes" "$path/log" | tail -n "$last" | wc -c)
        ((bytes - skip > from)) && from=$((bytes - skip))
    fi
    shown[$key]=1
    printf '%s %s %s %s %s\n' "${key%/*}" "${key##*/}" "$attempt" "$from" "$((bytes - from))" || exit 0
    part "$path/log" "$from" "$((bytes - from))"
    return 0
}

# Which runs are queued or running; 1 if that cannot be known now.
living() {
    local name task rows
    rows=$(scheduler_living "${tokens[@]/#/xmslurm-}") || return 1
    alive=()
    while read -r name task; do [[ -n $task ]] && alive[${name#xmslurm-}/$task]=1; done <<<"$rows"
    return 0
}
declare -A alive

tick=0
while :; do
    list
    left=0 doubts=()
    for key in "${keys[@]}"; do
        [[ -n ${over[$key]-} ]] && continue
        : "${now[$key]:=${fixed[$key]:-${newest[$key]-}}}"
        moved=
        show "$key" && moved=1
        if [[ -z ${fixed[$key]} && -n ${newest[$key]-} && ${newest[$key]} != "${now[$key]}" ]]; then
            now[$key]=${newest[$key]} offset[$key]=0 inode[$key]= moved=1
            show "$key"
        fi
        ((follow)) || continue
        ((left++))
        [[ -n $moved ]] && { absent[$key]=0; continue; }
        if [[ -n ${ended[$key/${now[$key]}]-} ]]; then
            state=$(sed -n 's/^state=//p' "$key/${now[$key]}/end" 2>/dev/null)
            case $state in
                cancelled | timeout | preempted | requeued) [[ -n ${fixed[$key]} ]] && over[$key]=1 || doubts+=("$key") ;;
                # Its log was whole before its end was written, but this list may be older.
                *) ((absent[$key]++ > 0)) && over[$key]=1 ;;
            esac
        elif ((tick % 10 == 9)); then
            doubts+=("$key")
        fi
    done
    ((follow && left)) || exit 0
    if ((${#doubts[@]})) && living; then
        for key in "${doubts[@]}"; do
            if [[ -n ${alive[$key]-} ]]; then absent[$key]=0; else ((absent[$key]++ > 0)) && over[$key]=1; fi
        done
    fi
    tick=$((tick + 1))
    if ((quick && SECONDS < 8)); then sleep 0.2; else sleep 1; fi
done
