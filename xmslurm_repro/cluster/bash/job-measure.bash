# What is known only when the command has run: its environment, its memory, how it ended.

# The process whose descendants are the command's, where a runtime knows no better.
declare -F xm_first_pid >/dev/null || xm_first_pid() { printf '%s' "$xm_container"; }

# Bytes in memory of a process and all that it started, or at any time of the largest of them;
# pages that they share count for each.
xm_resident() {  # PID
    local total pids pid most
    read -r total pids < <(xm_descendants "$1")
    most=$(for pid in $pids; do cat "/proc/$pid/status"; done 2>/dev/null |
        awk '/^VmHWM:/ && $2 > most { most = $2 } END { printf "%.0f", most * 1024 }')
    ((most > total)) && total=$most
    printf '%s' "$total"
}

# Prints how much is in memory, and who it is.
xm_descendants() {  # PID
    cat /proc/[0-9]*/stat 2>/dev/null | awk -v root="$1" -v page="$xm_page_bytes" '
        { pid = $1; sub(/^.*\) /, ""); parent[pid] = $2; pages[pid] = $22 }
        END {
            for (found[root] = 1; found[root]; ) {
                grown = 0
                for (pid in parent) if (!(pid in found) && (parent[pid] in found)) { found[pid] = 1; grown = 1 }
                if (!grown) break
            }
            for (pid in found) { total += pages[pid]; pids = pids " " pid }
            printf "%.0f%s\n", total * page, pids
        }'
}

# Look every second for as long as the container runs; the most is kept in a file.
xm_watch_memory() {
    (
        trap '' TERM INT USR1 USR2
        most=0 pause=0.1 first=
        while kill -0 "$xm_container"; do
            [[ -n $first ]] || first=$(xm_first_pid)
            if [[ -n $first ]]; then
                now=$(xm_resident "$first")
                ((now > most)) && most=$now && printf '%s\n' "$most" >"$xm_local/most"
            fi
            sleep "$pause"
            [[ $pause == 1 ]] || pause=$([[ $pause == 0.1 ]] && printf 0.5 || printf 1)
        done
    ) </dev/null >/dev/null 2>&1 8>&- 9>&- &
    xm_memory_pid=$!
    disown "$xm_memory_pid"
}

xm_unwatch_memory() { kill -KILL "$xm_memory_pid" 2>/dev/null; }

# The folders of this job's memory cgroup, from its own up; both versions.
xm_memory_cgroups() {
    local id controllers path root
    while IFS=: read -r id controllers path; do
        [[ $path == *job_* || $path == *slurm* ]] || continue
        case ,$controllers, in
            ,,) root=/sys/fs/cgroup ;;
            *,memory,*) root=/sys/fs/cgroup/memory ;;
            *) continue ;;
        esac
        while [[ -n $path && -d $root$path ]]; do
            printf '%s\n' "$root$path"
            path=${path%/*}
        done
    done </proc/self/cgroup
}

xm_memory_facts() {
    local folder file bytes limit= peak=
    while read -r folder; do
        for file in "$folder/memory.max" "$folder/memory.limit_in_bytes"; do
            read -r bytes 2>/dev/null <"$file" && [[ $bytes =~ ^[0-9]{1,15}$ ]] || continue
            [[ -z $limit ]] || ((bytes < limit)) && limit=$bytes
        done
        for file in "$folder/memory.peak" "$folder/memory.max_usage_in_bytes"; do
            [[ ${folder##*/} == job_* ]] && read -r bytes 2>/dev/null <"$file" && peak=$bytes
        done
    done < <(xm_memory_cgroups)
    [[ -z $limit ]] || xm_fact cgroup_memory_limit_mib "$((limit / 1048576))"
    [[ -z $peak ]] || xm_fact cgroup_memory_peak_mib "$((peak / 1048576))"
    read -r bytes 2>/dev/null <"$xm_local/most" && xm_fact memory_peak_mib "$(((bytes + 1048575) / 1048576))"
}

# xm_late_facts: what the facts do not have yet.
xm_late_facts() {
    local number
    [[ -z ${xm_env_names-} ]] || xm_fact environment "$xm_env_names"
    for number in "${!xm_input_real[@]}"; do
        xm_fact "input_${xm_input_names[number]}" "${xm_input_digests[number]/:/ sha256:}"
    done
    [[ -n ${xm_exit_code-} ]] || return 0
    ((xm_exit_code > 128 && xm_exit_code < 193)) && xm_fact exit_signal "$((xm_exit_code - 128))"
    xm_memory_facts
}

xm_add_late_facts() {
    [[ -r $xm_dir/facts && -n ${xm_local-} ]] || return 0
    { cat "$xm_dir/facts"; xm_late_facts; } >"$xm_local/facts.whole" 2>/dev/null && xm_write facts <"$xm_local/facts.whole"
}

# Names of what the command gets, never values.
xm_name_environment() {
    xm_env_names=$(printf '%s\0' "${xm_env[@]%%=*}" "${xm_secret_names[@]}" | sort -z -u | tr '\n\0' ' \n' | paste -s -d ' ')
}
