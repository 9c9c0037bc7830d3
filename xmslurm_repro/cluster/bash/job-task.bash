# This task's own part: its command and environment.

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
    xm_env=("${fields[@]:count+1}" "XMSLURM_ATTEMPT=$xm_attempt" "XMSLURM_RESTART_COUNT=$xm_restarts")
    ((xm_gpus)) && xm_add_gpus
    xm_read_secrets
    [[ -z ${XM_MEMBER-} ]] || xm_add_peers
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

# Accelerators of the node, and the part of their driver that has to fit the kernel's. Everything
# else comes with the image.
xm_gpu_devices() {
    local device
    for device in /dev/nvidia* /dev/kfd /dev/dri; do [[ ! -e $device ]] || printf '%s\n' "$device"; done
}

# Lines "<name> <path>"; the first of a name is the loader's choice.
xm_driver_libraries() {
    PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null |
        sed -n 's/^[[:space:]]*\(lib\(cuda\|cudadebugger\|nvidia-[a-z-]*\|nvcuvid\)\.so\.[0-9]*\) (.*x86-64.*) => /\1 /p; s/^[[:space:]]*\(lib\(cuda\|nvidia-[a-z-]*\)\.so\.[0-9]*\) (.*AArch64.*) => /\1 /p' |
        awk '!seen[$1]++'
}
