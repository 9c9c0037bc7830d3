# Folders on the node, and the facts about it.

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
    # And in the state folder: what nobody has renamed into place within two days, nobody will.
    find "$xm_state/layers" "$xm_state/roots" "$xm_state/code" -mindepth 1 -maxdepth 1 -name '*.new.*' -mtime +1 -exec rm -rf -- {} + 2>/dev/null
}

xm_fact() { printf '%s=%s\n' "$1" "${2//[[:cntrl:]]/ }"; }

xm_cpu_facts() {
    local line key value model= flags= stepping= microcode= part=
    while IFS= read -r line && [[ -n $line ]]; do
        key=${line%%[[:space:]:]*} value=${line#*: }
        case $line in
            'model name'*) model=$value ;;
            flags*:* | Features*:*) flags=$value ;;
            stepping*) stepping=$value ;;
            microcode*) microcode=$value ;;
            # What ARM has in place of a model.
            'CPU implementer'* | 'CPU part'* | 'CPU variant'* | 'CPU revision'*) part+="${part:+, }${line%%[[:space:]]*:*} ${value}" ;;
        esac
    done </proc/cpuinfo
    xm_fact cpu_model "${model:-$part}"
    xm_fact cpu_stepping "$stepping"
    xm_fact cpu_microcode "$microcode"
    value=$(printf '%s\n' $flags | sort | sha256sum)
    xm_fact cpu_flags_sha256 "${value%% *}"
    # Those by which numeric libraries choose their code.
    xm_fact cpu_simd "$(printf '%s\n' $flags | grep -E '^(sse|ssse|avx|fma|f16c|amx|asimd|sve|sme(_|2|$)|bf16|i8mm|neon)' | sort | paste -s -d ' ')"
    xm_fact cpus "$(nproc)"
    xm_fact cpus_allowed "$(sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status)"
}

xm_gpu_facts() {
    local line n=0
    [[ -r /sys/module/amdgpu/version ]] && read -r line </sys/module/amdgpu/version && xm_fact gpu_driver "amdgpu $line"
    command -v nvidia-smi >/dev/null || return 0
    while IFS= read -r line; do
        xm_fact "gpu_$n" "$line"
        n=$((n + 1))
    done < <(timeout 20 nvidia-smi --format=csv,noheader \
        --query-gpu=name,uuid,vbios_version,memory.total,compute_mode,ecc.mode.current 2>/dev/null)
    xm_fact gpus "$n"
    line=
    [[ -r /proc/driver/nvidia/version ]] && read -r line </proc/driver/nvidia/version
    [[ -n $line ]] || line=$(timeout 20 nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1)
    xm_fact gpu_driver "$line"
    xm_fact cuda_driver "$(timeout 20 nvidia-smi 2>/dev/null | sed -n 's/.*CUDA Version: *\([0-9.]*\).*/\1/p' | head -n 1)"
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
    xm_fact limits "$(xm_limits_in_force)"
}

# Of this shell's, which the command inherits unless its runtime says otherwise.
xm_limits_in_force() {
    local option name all=
    for name in address:v core:c data:d file:f locked:l memory:m files:n processes:u stack:s cpu:t; do
        option=${name#*:}
        all+="${all:+ }${name%:*}=$(ulimit -S -"$option" 2>/dev/null)"
    done
    printf '%s' "$all"
}

xm_facts() {
    {
        xm_fact format 1
        xm_fact attempt "$xm_attempt"
        [[ -n ${xm_carried-} ]] && xm_fact continues "$xm_carried"
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
            xm_fact allocated_cpus "${SLURM_CPUS_ON_NODE-}"
            xm_fact allocated_memory_mib "${SLURM_MEM_PER_NODE-${SLURM_MEM_PER_CPU:+$((SLURM_MEM_PER_CPU * ${SLURM_CPUS_ON_NODE:-1}))}}"
        fi
        xm_system_facts
        xm_cpu_facts
        xm_gpu_facts
    } 2>/dev/null | xm_write facts
}
