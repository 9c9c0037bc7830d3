# The job. Everything above this line was written for this submission; from here on the text is
# the same in every job. It needs bash, coreutils, findutils, tar, gzip and the container runtime.
#
# An attempt owns one folder, runs/<token>/<task>/<job id>.<restart count>, and writes `end` into
# it last. Nothing outside that folder is changed but caches, which are renamed into place whole.

set -u -o pipefail
export LC_ALL=C TZ=UTC
umask 022
xm_path=$PATH
unset -v CDPATH GLOBIGNORE BASH_ENV ENV TAR_OPTIONS GZIP POSIXLY_CORRECT

xm_say() { printf 'xmslurm: %s\n' "$*" >&2; }

xm_now() { printf -v "$1" '%(%Y-%m-%dT%H:%M:%SZ)T' -1; }

# --- who we are ------------------------------------------------------------------------------

xm_identify() {
    xm_job=${SLURM_ARRAY_JOB_ID:-${SLURM_JOB_ID:-${XM_JOB_ID:?this is no job}}}
    xm_task=${SLURM_ARRAY_TASK_ID:-${XM_TASK_ID:-0}}
    xm_job_name=$xm_job
    ((xm_task_count > 1)) && xm_job_name=${xm_job}_$xm_task
    xm_attempt=$xm_job_name.${SLURM_RESTART_COUNT:-0}
    xm_run_dir=$xm_state/runs/$xm_token/$xm_task
    xm_dir=$xm_run_dir/$xm_attempt
}

# Of two jobs of one submission (a submission repeated although the first had arrived) one runs.
# A hard link is made by exactly one of them, on NFS too.
xm_claim() {
    local owner
    mkdir -p "$xm_run_dir" || return 1
    printf '%s\n' "$xm_job" >"$xm_run_dir/claim.$xm_attempt" || return 1
    ln "$xm_run_dir/claim.$xm_attempt" "$xm_run_dir/claim" 2>/dev/null
    rm -f "$xm_run_dir/claim.$xm_attempt"
    read -r owner <"$xm_run_dir/claim" || return 1
    [[ $owner == "$xm_job" ]] && return 0
    xm_say "job $xm_job_name steps aside: it is a duplicate of job $owner"
    exit 0
}

# --- how it ends -----------------------------------------------------------------------------

# xm_write NAME: keep standard input as NAME in the attempt's folder, whole or not at all.
xm_write() {
    cat >"$xm_dir/.$1.new" && sync "$xm_dir/.$1.new" 2>/dev/null
    mv -f "$xm_dir/.$1.new" "$xm_dir/$1"
}

# What stands in the outputs folder: records "<sha256> <size> <f or l> <path>" ended by NUL, in
# order of their paths. A link's content is its target, as in git.
xm_list_outputs() (
    cd "$xm_dir/outputs" && mkdir -p "$xm_local/links" || exit 1
    find . -type d ! -perm -u+rwx -exec chmod u+rwx {} \; -o -type f ! -perm -u+r -exec chmod u+r {} +
    find . -type f -printf '%P\0' >"$xm_local/files" || exit 1
    xargs -0 -r stat --printf='%s f\0' -- <"$xm_local/files" >"$xm_local/kinds" || exit 1
    xargs -0 -r sha256sum -z -- <"$xm_local/files" >"$xm_local/sums" || exit 1
    number=0
    while IFS= read -r -d '' path && IFS= read -r -d '' target; do
        number=$((number + 1))
        printf '%s' "$target" >"$xm_local/links/$number"
        printf '%s\0' "$path" >>"$xm_local/files"
        printf '%s l\0' "${#target}" >>"$xm_local/kinds"
    done < <(find . -type l -printf '%P\0%l\0')
    ((number == 0)) || (cd "$xm_local/links" && seq "$number" | xargs sha256sum -z --) >>"$xm_local/sums" || exit 1
    cut -z -c -64 "$xm_local/sums" | paste -z -d ' ' - "$xm_local/kinds" "$xm_local/files" | sort -z -k4
)

# xm_finish STATE EXIT_CODE REASON: leave the record and end.
xm_finish() {
    local ended log outputs reason=${3//[[:cntrl:]]/ }
    trap '' TERM INT HUP USR1 USR2
    xm_now ended
    [[ -n ${xm_facts_pid-} ]] && wait "$xm_facts_pid"
    if [[ -n ${xm_local-} ]] && xm_list_outputs >"$xm_local/outputs"; then
        xm_write outputs.sha256 <"$xm_local/outputs"
    elif [[ -n ${xm_local-} ]]; then
        set -- failed "$2" "$3"
        reason="the outputs could not be read${reason:+; $reason}"
    else
        xm_write outputs.sha256 </dev/null
    fi
    [[ -e $xm_dir/log ]] || : >"$xm_dir/log"
    log=$(sha256sum <"$xm_dir/log") outputs=$(sha256sum <"$xm_dir/outputs.sha256")
    printf '%s\n' format=1 "state=$1" "exit_code=$2" "started_at=$xm_started" "ended_at=$ended" \
        "image=${xm_attested-}" "log_sha256=${log%% *}" "outputs_sha256=${outputs%% *}" \
        "reason=$reason" | xm_write end
    [[ -n $reason ]] && xm_say "$1: $reason"
    xm_clean
    [[ $2 == 0 && $1 == completed ]] && exit 0
    [[ -n $2 && $2 != 0 ]] && exit "$2"
    exit 125
}

xm_clean() {
    [[ -n ${xm_local-} ]] || return 0
    rm -rf -- "$xm_local" 2>/dev/null || {
        chmod -R u+rwX -- "$xm_local" 2>/dev/null
        rm -rf -- "$xm_local"
    }
}

# xm_refuse REASON: we were not given what the manifest says.
xm_refuse() {
    xm_settle
    xm_finish refused '' "$1"
}

# Where every process of a job is signalled, a check may have failed because its tools were. Our
# own signal then comes within this time, and a cancelled job is no refused one.
xm_settle() { sleep 0.3; }

# --- what we were given ----------------------------------------------------------------------

# Read this task's record: the number of words, the words, then NAME=value, each ended by NUL.
xm_read_task() {
    local folder=$xm_state/submit/$xm_token index sum offset size digest field fields=() count
    index=$folder/tasks.index
    sum=$(sha256sum <"$index" 2>/dev/null) || xm_refuse "the task index $index cannot be read"
    [[ ${sum%% *} == "$xm_index_sha256" ]] || xm_refuse "the task index $index was changed after submission"
    read -r offset size digest < <(tail -c "+$((xm_task * 91 + 1))" "$index" | head -c 91)
    offset=$((10#$offset)) size=$((10#$size))
    tail -c "+$((offset + 1))" "$folder/tasks" 2>/dev/null | head -c "$size" >"$xm_local/task"
    sum=$(sha256sum <"$xm_local/task")
    [[ ${sum%% *} == "$digest" ]] || xm_refuse "the record of task $xm_task was changed after submission"
    while IFS= read -r -d '' field; do fields+=("$field"); done <"$xm_local/task"
    count=${fields[0]}
    xm_argv=("${fields[@]:1:count}")
    xm_env=("${fields[@]:count+1}" "XMSLURM_ATTEMPT=$xm_attempt")
    ((xm_gpus)) && xm_add_gpus
}

# Which of the node's accelerators are ours is known here only, and without it a command takes all
# where no cgroup keeps it from them.
xm_add_gpus() {
    local name
    for name in CUDA_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES GPU_DEVICE_ORDINAL ZE_AFFINITY_MASK; do
        [[ -n ${!name-} ]] && xm_env+=("$name=${!name}")
    done
    return 0
}

xm_add_library_path() {
    local number
    for number in "${!xm_env[@]}"; do
        [[ ${xm_env[number]} == LD_LIBRARY_PATH=* ]] && { xm_env[number]+=:$1; return; }
    done
    xm_env+=("LD_LIBRARY_PATH=$1")
}

# xm_alone FILE COMMAND...: run COMMAND while nobody else holds FILE. The lock saves work only:
# what is built is renamed into place, so without locks on this file system all is still right.
xm_alone() {
    local file=$1
    shift
    (
        flock -w 1800 9 2>/dev/null
        "$@"
    ) 9>"$file"
}

# Everything in a tree, so that equal lists mean equal trees: "<kind> <mode> …" for each path and
# "<sha256>  ./<path>" for each file, ended by NUL, sorted.
xm_list() (
    cd "$1" || exit 1
    {
        find . -mindepth 1 \( -type d -printf 'd %m %P\0' -o -type f -printf 'f %m %s %P\0' \
            -o -type l -printf 'l %P -> %l\0' -o -printf '%y %m %P\0' \) || exit 1
        find . -type f -print0 | xargs -0 -r sha256sum -z -- || exit 1
    } | sort -z
)

# What shows that a file was touched: any write, chmod, rename or replacement moves one of these.
xm_stamp() (
    cd "$1" || exit 1
    find . -mindepth 1 -printf '%P %y %m %s %T@ %C@ %i\0' | sort -z | sha256sum
)

# xm_unpack DIFF_ID BLOB DECOMPRESSOR: have the layer in layers/, with its list beside it.
xm_unpack() {
    local final=$xm_state/layers/$1 blob=$xm_state/blobs/sha256/$2 new got fifo=$xm_local/fifo tar
    [[ -d $final ]] && return 0
    new=$final.new.$xm_attempt
    [[ -r $blob ]] || { xm_say "blob sha256:$2 is missing"; return 1; }
    got=$(sha256sum <"$blob")
    [[ ${got%% *} == "$2" ]] || { xm_say "blob sha256:$2 is damaged"; return 1; }
    rm -rf -- "$new" "$fifo"
    mkdir -p "$new" && mkfifo "$fifo" || return 1
    # Device nodes cannot be made by users, and every runtime brings its own /dev. -B: reads from
    # a FIFO may be short.
    tar -x -p -B --no-same-owner --delay-directory-restore --warning=no-timestamp --anchored \
        --exclude='dev/*' --exclude='./dev/*' -C "$new" -f "$fifo" &
    tar=$!
    got=$($3 <"$blob" | tee -p "$fifo" | sha256sum)
    wait "$tar" || { xm_say "layer sha256:$1 cannot be unpacked"; rm -rf -- "$new"; return 1; }
    [[ ${got%% *} == "$1" ]] || { xm_say "layer sha256:$1 is damaged"; rm -rf -- "$new"; return 1; }
    find "$new" -type d ! -perm -u+rwx -exec chmod u+rwx {} \; -o -type f ! -perm -u+r -exec chmod u+r {} +
    xm_list "$new" >"$new.list" || return 1
    mv -f "$new.list" "$final.list" && mv -T "$new" "$final" 2>/dev/null || rm -rf -- "$new"
    [[ -d $final ]]
}

# xm_overlay LAYER TREE: lay a layer over what is there, by hard links.
xm_overlay() {
    local layer=$1 tree=$2 kind path name
    if [[ -z $(find "$layer" -name '.wh.*' -print -quit) ]] &&
        cp -a -l -f "$layer/." "$tree/" 2>/dev/null; then
        return 0
    fi
    # Slow and rare: kinds that collide, whiteouts, or no hard links. Collisions go first, so that
    # no path below leads through a link of a lower layer.
    while IFS= read -r -d '' kind && IFS= read -r -d '' path; do
        [[ -e $tree/$path || -L $tree/$path ]] || continue
        [[ $kind == d && -d $tree/$path && ! -L $tree/$path ]] || rm -rf -- "${tree:?}/$path"
    done < <(find "$layer" -mindepth 1 -printf '%y\0%P\0')
    while IFS= read -r -d '' path; do
        name=${path##*/} path=${path%"$name"}
        if [[ $name == .wh..wh..opq ]]; then
            find "$tree/$path" -mindepth 1 -delete 2>/dev/null
        else
            rm -rf -- "${tree:?}/$path${name#.wh.}"
        fi
    done < <(find "$layer" -name '.wh.*' -printf '%P\0')
    cp -a -l -f "$layer/." "$tree/" 2>/dev/null || cp -a -f "$layer/." "$tree/" || return 1
    find "$tree" -name '.wh.*' -delete
}

# xm_assemble TREE MOUNT_POINTS DIFF_ID...: put a tree together and check that every path in it is
# one that a layer brought, as it was when the layer was unpacked.
xm_assemble() {
    local final=$1 points=$2 new list point diff_id
    shift 2
    [[ -d $final ]] && return 0
    new=$final.new.$xm_attempt list=$final.list.$xm_attempt
    rm -rf -- "$new"
    mkdir -p "$new" || return 1
    for diff_id; do xm_overlay "$xm_state/layers/$diff_id" "$new" || return 1; done
    : >"$list.ours"
    for point in $points; do
        [[ -e $new/$point || -L $new/$point ]] && continue
        case $point in
            *.conf | *hosts) : >"$new/$point" && printf 'f 644 0 %s\0%s  ./%s\0' "$point" "$xm_sha256_of_nothing" "$point" ;;
            *) mkdir -m 755 "$new/$point" && printf 'd 755 %s\0' "$point" ;;
        esac >>"$list.ours" || return 1
    done
    xm_list "$new" >"$list" || return 1
    for diff_id; do cat "$xm_state/layers/$diff_id.list" || return 1; done |
        sort -z -u - "$list.ours" | comm -z -23 "$list" - >"$list.odd"
    if [[ -s $list.odd ]]; then
        xm_say "not as unpacked: $(head -z -n 3 "$list.odd" | tr '\0' ';')"
        xm_set_aside "$new" "$@"
        return 1
    fi
    mv -f "$list" "$final.list" && mv -T "$new" "$final" 2>/dev/null || rm -rf -- "$new"
    rm -f "$list" "$list.ours" "$list.odd"
    [[ -d $final ]]
}

xm_sha256_of_nothing=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855

# What was found damaged goes away, whole, so that the next attempt starts from the blobs.
xm_set_aside() {
    local tree=$1 aside=$xm_state/damaged/$xm_token.$xm_task.$xm_attempt diff_id
    shift
    xm_settle
    mkdir -p "$aside" || return
    mv -T "$tree" "$aside/tree" 2>/dev/null
    rm -f "$tree.stamp" "$tree.list"
    for diff_id; do
        mv -T "$xm_state/layers/$diff_id" "$aside/$diff_id" 2>/dev/null
        rm -f "$xm_state/layers/$diff_id.list"
    done
}

# xm_check TREE FULL DIFF_ID...: is the tree what was unpacked? 0: its files are read only if one
# looks touched. A new hard link to a file touches it; reading it again settles that.
xm_check() {
    local tree=$1 full=$2 stamp known=
    shift 2
    stamp=$(xm_stamp "$tree") || return 1
    [[ -r $tree.stamp ]] && read -r known <"$tree.stamp"
    if ((!full)) && [[ ${stamp%% *} == "$known" ]]; then return 0; fi
    xm_list "$tree" >"$xm_local/list" || return 1
    if cmp -s "$xm_local/list" "$tree.list"; then
        printf '%s\n' "${stamp%% *}" >"$tree.stamp.$xm_attempt" && mv -f "$tree.stamp.$xm_attempt" "$tree.stamp"
        return 0
    fi
    xm_odd=$(comm -z -3 "$xm_local/list" "$tree.list" | tr -d '\t' | head -z -n 1 | tr '\0' ' ')
    xm_set_aside "$tree" "$@"
    return 1
}

# xm_have_tree VARIABLE FOLDER KEY FULL MOUNT_POINTS LAYER...: a tree, made if need be, checked.
# LAYER is "<diff id> <blob> <decompressor>".
xm_have_tree() {
    local -n xm_tree_out=$1
    local folder=$2 tree=$xm_state/$2/$3 full=$4 points=$5 layer words diff_ids=()
    shift 5
    for layer; do diff_ids+=("${layer%% *}"); done
    if [[ ! -d $tree ]]; then
        mkdir -p "$xm_state/layers" "$xm_state/$folder"
        for layer; do
            words=($layer)
            [[ -d $xm_state/layers/${words[0]} ]] ||
                xm_alone "$xm_state/layers/${words[0]}.lock" xm_unpack "${words[0]}" "${words[1]}" "${words[*]:2}" \
                    2>"$xm_local/why" || xm_refuse "$(<"$xm_local/why")"
        done
        xm_alone "$tree.lock" xm_assemble "$tree" "$points" "${diff_ids[@]}" 2>"$xm_local/why" ||
            xm_refuse "$folder cannot be put together: $(<"$xm_local/why")"
    fi
    xm_check "$tree" "$full" "${diff_ids[@]}" ||
        xm_refuse "$folder is not what was unpacked, beginning with: ${xm_odd-$tree}"
    xm_tree_out=$tree
}

xm_have_trees() {
    xm_have_tree xm_root roots "$xm_root_key" "$xm_full_check" \
        'xm xm/code xm/driver xm/outputs xm/pycache tmp proc dev sys run etc etc/resolv.conf etc/hosts' "${xm_root_layers[@]}"
    xm_code=$xm_root/xm/code
    if ((${#xm_code_layers[@]})); then
        xm_have_tree xm_code code "$xm_code_key" 1 'xm xm/code' "${xm_code_layers[@]}"
        xm_code=$xm_code/xm/code
    fi
    xm_attested=$xm_image
}

# --- where it runs ---------------------------------------------------------------------------

# Folders on the node: /tmp of the command, the bytecode of the packages (kept, shared by jobs of
# this user with the same packages) and the bytecode of the code (ours alone: all its files have
# one time stamp, by which Python would take stale bytecode for a same-sized edit).
xm_make_folders() {
    local base=${SLURM_TMPDIR:-${TMPDIR:-/tmp}}
    [[ -d $base && -w $base ]] || base=/tmp
    xm_local=$(mktemp -d "$base/xmslurm-job.XXXXXX") || xm_finish failed '' "no folder can be made in $base"
    # Whoever finds this folder without its lock held may remove it: then we were killed.
    exec 8>"$xm_local/lock" && flock -n 8 2>/dev/null
    xm_scratch=$base
    xm_tmp=$xm_local/tmp xm_private=$xm_local/pycache
    mkdir -m 1777 "$xm_tmp" && mkdir -p "$xm_private"
    xm_outputs=$xm_dir/outputs
    xm_node=$base/xmslurm-$UID
    mkdir -m 700 "$xm_node" 2>/dev/null
    # Somebody else's folder of that name in a shared /tmp is not to be trusted.
    [[ ! -L $xm_node && -O $xm_node && $(stat -c %a "$xm_node") == 700 ]] || xm_node=$xm_local/node
    xm_pycache=$xm_node/pycache/$xm_root_key
    mkdir -p "$xm_pycache/xm/code" || xm_finish failed '' "nothing can be written to $xm_node"
}

# Remove what jobs of ours left on this node when they were killed.
xm_sweep() {
    local folder
    while IFS= read -r -d '' folder; do
        [[ -f $folder/lock ]] && flock -n "$folder/lock" rm -rf -- "$folder" 2>/dev/null
    done < <(find "$xm_scratch" -maxdepth 1 -type d -name 'xmslurm-job.*' -user "$UID" -mmin +10 -print0)
}

xm_fact() { printf '%s=%s\n' "$1" "${2//[[:cntrl:]]/ }"; }

xm_cpu_facts() {
    local line key value model= flags= stepping= microcode=
    while IFS= read -r line && [[ -n $line ]]; do
        key=${line%%[[:space:]:]*} value=${line#*: }
        case $line in
            'model name'*) model=$value ;;
            flags*:* | Features*:*) flags=$value ;;
            stepping*) stepping=$value ;;
            microcode*) microcode=$value ;;
        esac
    done </proc/cpuinfo
    xm_fact cpu_model "$model"
    xm_fact cpu_stepping "$stepping"
    xm_fact cpu_microcode "$microcode"
    value=$(printf '%s\n' $flags | sort | sha256sum)
    xm_fact cpu_flags_sha256 "${value%% *}"
    xm_fact cpus "$(nproc)"
}

xm_gpu_facts() {
    local line n=0
    command -v nvidia-smi >/dev/null || return 0
    while IFS= read -r line; do
        xm_fact "gpu_$n" "$line"
        n=$((n + 1))
    done < <(timeout 20 nvidia-smi --format=csv,noheader \
        --query-gpu=name,uuid,vbios_version,memory.total,compute_mode,ecc.mode.current 2>/dev/null)
    xm_fact gpus "$n"
    line=
    [[ -r /proc/driver/nvidia/version ]] && read -r line </proc/driver/nvidia/version
    xm_fact gpu_driver "$line"
}

xm_system_facts() {
    local line
    xm_fact node "${SLURMD_NODENAME:-$HOSTNAME}"
    xm_fact hostname "$HOSTNAME"
    read -r line </proc/sys/kernel/osrelease && xm_fact kernel "$line"
    read -r line </proc/sys/kernel/version && xm_fact kernel_version "$line"
    xm_fact architecture "$(uname -m)"
    read -r line </proc/sys/kernel/random/boot_id && xm_fact boot_id "$line"
    line=$(. /etc/os-release 2>/dev/null && printf '%s' "${PRETTY_NAME-}")
    xm_fact os "$line"
    xm_fact glibc "$(getconf GNU_LIBC_VERSION 2>/dev/null)"
    while read -r line; do
        [[ $line == MemTotal:* ]] && { line=${line//[!0-9]/}; xm_fact memory_mib "$((line / 1024))"; break; }
    done </proc/meminfo
    [[ -r /proc/sys/kernel/randomize_va_space ]] && read -r line </proc/sys/kernel/randomize_va_space && xm_fact aslr "$line"
    [[ -r /sys/kernel/mm/transparent_hugepage/enabled ]] && read -r line </sys/kernel/mm/transparent_hugepage/enabled && xm_fact transparent_hugepages "$line"
    xm_fact umask "$(umask)"
    xm_fact limits "$(ulimit -Sa | awk '{v=$NF; sub(/.*-/,"",$0); print substr($0,1,1) "=" v}' | tr '\n' ' ')"
}

xm_facts() {
    {
        xm_fact format 1
        xm_fact attempt "$xm_attempt"
        xm_fact started_at "$xm_started"
        xm_fact scheduler "$xm_scheduler"
        xm_fact bash "$BASH_VERSION"
        xm_fact runtime "$xm_runtime"
        xm_fact runtime_version "$(xm_runtime_version 2>&1 | head -n 1)"
        if [[ -n ${SLURM_JOB_ID-} ]]; then
            xm_fact scheduler_version "$(sbatch --version 2>/dev/null)"
            xm_fact job_id "$xm_job_name"
            xm_fact partition "${SLURM_JOB_PARTITION-}"
            xm_fact gpu_indexes "${SLURM_JOB_GPUS-}"
        fi
        xm_system_facts
        xm_cpu_facts
        xm_gpu_facts
    } 2>/dev/null | xm_write facts
}

# --- run -------------------------------------------------------------------------------------

# Slurm signals every process of a job on some sites and only this shell on others. Why it does is
# not in the signal; the controller knows.
xm_on_signal() {
    local shown= now
    [[ -n ${xm_interrupted-} ]] && return
    xm_interrupted=cancelled xm_why="the scheduler ended it (SIG$1)"
    if [[ -n ${XM_DEADLINE-} ]]; then
        printf -v now '%(%s)T' -1
        ((now >= XM_DEADLINE)) && xm_interrupted=timeout xm_why='it reached its time limit'
    elif [[ -n ${SLURM_JOB_ID-} ]]; then
        shown=$(timeout 1 scontrol show job -o "$SLURM_JOB_ID" 2>/dev/null)
        xm_read_why "$shown"
    fi
    [[ -n ${xm_container-} ]] || xm_finish "$xm_interrupted" '' "$xm_why"
    xm_forward "$1"
}

xm_seconds() {  # [days-]hours:minutes:seconds
    local days=0 text=$1
    [[ $text == *-* ]] && days=${text%%-*} text=${text#*-}
    [[ $text =~ ^([0-9]+):([0-9]+):([0-9]+)$ ]] || { printf '%s' -1; return; }
    printf '%s' $((10#$days * 86400 + 10#${BASH_REMATCH[1]} * 3600 + 10#${BASH_REMATCH[2]} * 60 + 10#${BASH_REMATCH[3]}))
}

xm_read_why() {
    local word ran=-1 limit=-1 restarts=0
    for word in $1; do
        case $word in
            RunTime=*) ran=$(xm_seconds "${word#*=}") ;;
            TimeLimit=*) limit=$(xm_seconds "${word#*=}") ;;
            Restarts=*) restarts=${word#*=} ;;
            JobState=PREEMPTED*) restarts=999999 ;;
            JobState=TIMEOUT*) limit=0 ran=0 ;;
        esac
    done
    if ((restarts > ${SLURM_RESTART_COUNT:-0})); then
        xm_interrupted=preempted xm_why='it was preempted or requeued'
    elif ((limit >= 0 && ran >= limit)); then
        xm_interrupted=timeout xm_why='it reached its time limit'
    fi
}

xm_children() { cat "/proc/$1/task/$1/children" 2>/dev/null; }

xm_oom_kills() {
    local id controllers path file word count total=0
    while IFS=: read -r id controllers path; do
        for file in "/sys/fs/cgroup$path/memory.events" "/sys/fs/cgroup/memory$path/memory.oom_control"; do
            [[ -r $file && ( -z $controllers || $controllers == *memory* ) ]] || continue
            while read -r word count; do [[ $word == oom_kill ]] && total=$((total + count)); done <"$file"
        done
    done </proc/self/cgroup
    printf '%s' "$total"
}

# Wait for the container; after a signal only as long as we were given.
xm_wait() {
    local left=$((xm_grace_seconds * 10))
    wait "$xm_container"
    while kill -0 "$xm_container" 2>/dev/null; do
        if [[ -n ${xm_interrupted-} ]]; then
            ((left-- > 0)) || xm_kill
            sleep 0.1
        else
            wait "$xm_container"
        fi
    done
    wait "$xm_container"
}

xm_start() {
    local code oom state=completed reason=
    oom=$(xm_oom_kills)
    ulimit -S -c 0
    xm_build_command
    # Job control, because without it the shell starts what goes to the background with SIGINT
    # ignored, and that would reach the command.
    set -m
    "${xm_command[@]}" </dev/null >>"$xm_dir/log" 2>&1 3>"$xm_local/status" 8>&- 9>&- &
    xm_container=$!
    set +m
    xm_guard
    xm_wait
    code=$?
    xm_unguard
    if [[ -n ${xm_interrupted-} ]]; then
        xm_finish "$xm_interrupted" "$code" "$xm_why"
    fi
    if ! xm_has_started "$code"; then
        xm_finish failed '' "$xm_runtime could not start the command: $(tail -n 1 "$xm_dir/log" | head -c 500)"
    fi
    ((code != 0)) && state=failed
    ((code > 128 && code < 193)) && reason="the command was killed by signal $((code - 128))"
    if ((code != 0)) && (($(xm_oom_kills) > oom)); then
        state=out-of-memory reason='it used more memory than it asked for'
    fi
    xm_finish "$state" "$code" "$reason"
}

xm_main() {
    xm_identify
    xm_now xm_started
    xm_claim || { xm_say "nothing can be written to $xm_run_dir"; exit 125; }
    mkdir "$xm_dir" && mkdir "$xm_dir/outputs" || { xm_say "the attempt $xm_dir cannot begin"; exit 125; }
    trap 'xm_on_signal TERM' TERM
    trap 'xm_on_signal INT' INT
    xm_make_folders
    (trap '' TERM INT; exec 8>&-; xm_facts; xm_sweep) &
    xm_facts_pid=$!
    xm_read_task
    xm_prepare
    [[ -n ${xm_interrupted-} ]] && xm_finish "$xm_interrupted" '' "$xm_why"
    xm_start
}
