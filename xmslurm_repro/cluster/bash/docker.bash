# docker: the engine of the node, filled from the blobs, by the image config's digest.

xm_runtime_version() { docker --version; }

xm_prepare() {
    local limit
    command -v docker >/dev/null || xm_finish failed '' 'docker is not on this node'
    xm_engine=(docker "${xm_docker_options[@]}") xm_engine_end=(rm -f)
    "${xm_engine[@]}" version >/dev/null 2>"$xm_local/why" ||
        xm_finish failed '' "docker does not answer: $(tail -n 1 "$xm_local/why" | head -c 500)"
    xm_name=xm-$xm_token-$xm_task-${xm_attempt/+/_}${xm_rank:+-$xm_rank}
    xm_alone "$xm_node/docker.lock" xm_load 2>"$xm_local/why" || xm_say "$(tail -n 1 "$xm_local/why")"
    xm_find_image || xm_refuse_load docker
    xm_attested=$xm_image
    # Without root of its own, the engine takes the user for root.
    xm_user=(--user "$UID:$(id -g)")
    [[ $("${xm_engine[@]}" info --format '{{.SecurityOptions}}' 2>/dev/null) == *rootless* ]] && xm_user=()
    xm_more=()
    # The engine is no part of the job: what the job may use has to be said again.
    limit=$(sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status)
    [[ -n $limit ]] && xm_more+=(--cpuset-cpus "$limit")
    limit=${SLURM_MEM_PER_NODE:-$((${SLURM_MEM_PER_CPU:-0} * ${SLURM_CPUS_ON_NODE:-1}))}
    ((limit > 0)) && xm_more+=(--memory "${limit}m" --memory-swap "${limit}m")
    # Who waits for what the command leaves behind, and passes signals on.
    command -v docker-init >/dev/null && xm_more+=(--init)
    ((xm_gpus)) && xm_more+=(--gpus "\"device=${CUDA_VISIBLE_DEVICES:-all}\"")
    return 0
}

# The engine calls an image by its config, or, where containerd keeps it, by its manifest.
xm_find_image() {
    local id
    for id in "$xm_config" "$xm_image"; do
        [[ $("${xm_engine[@]}" image inspect --format '{{.Id}}' "$id" 2>/dev/null) == "$id" ]] || continue
        xm_image_id=$id
        return 0
    done
    return 1
}

xm_load() {
    local had
    xm_find_image && return
    # What the engine has of the layers, from the lowest on, it does not need again. An engine that
    # keeps them otherwise wants all of them.
    had=$(xm_count_layers)
    xm_load_layers "$had" && xm_find_image && return
    ((had)) && ! grep -q '^xmslurm: blob ' "$xm_local/why" && xm_load_layers 0
}

# How many of our layers, from the lowest on, are those of an image that the engine has.
xm_count_layers() {
    local layer ours= most=0 n had line
    for layer in "${xm_root_layers[@]}" "${xm_code_layers[@]}"; do ours+="sha256:${layer%% *} "; done
    while read -r line; do
        set -- $line
        n=0
        for had in $ours; do [[ ${1-} == "$had" ]] || break; shift; n=$((n + 1)); done
        ((n > most)) && most=$n
    done < <("${xm_engine[@]}" image ls --no-trunc --quiet | sort -u | head -n 500 | xargs -r \
        "${xm_engine[@]}" image inspect --format '{{join .RootFS.Layers " "}}')
    printf '%s' "$most"
}

# xm_load_layers N: let the engine read an archive of our blobs, without the N lowest layers. It is
# an OCI image layout and, for engines before 25, also what `docker save` wrote then.
xm_load_layers() {
    local skip=$1 layer words layers= blobs=("${xm_image#sha256:}" "${xm_config#sha256:}") hex
    for layer in "${xm_root_layers[@]}" "${xm_code_layers[@]}"; do
        words=($layer)
        layers+="${layers:+,}\"blobs/sha256/${words[1]}\""
        ((skip-- > 0)) || blobs+=("${words[1]}")
    done
    for hex in "${blobs[@]}"; do xm_verify_blob "$hex" || return; done
    mkdir -p "$xm_local/archive" && cp "$xm_state/images/${xm_image#sha256:}"/{oci-layout,index.json} "$xm_local/archive/" || return
    printf '[{"Config":"blobs/sha256/%s","RepoTags":null,"Layers":[%s]}]' "${xm_config#sha256:}" "$layers" >"$xm_local/archive/manifest.json"
    tar -c -f - -C "$xm_local/archive" manifest.json oci-layout index.json -C "$xm_state" "${blobs[@]/#/blobs/sha256/}" |
        "${xm_engine[@]}" load --quiet >/dev/null
}

# The container is kept until it was asked how it ended.
xm_unguard() {
    kill -KILL "$xm_guard_pid" "$xm_canary_pid" 2>/dev/null
    [[ $("${xm_engine[@]}" container inspect --format '{{.State.OOMKilled}}' "$xm_name" 2>/dev/null) == true ]] && : >"$xm_local/oom"
    "${xm_engine[@]}" rm -f "$xm_name" &>/dev/null
}

xm_bind() { xm_more+=(--mount "type=bind,src=$1,dst=$2,ro"); }

# 125 is docker's own trouble, or ours before the command. 126 and 127 are the engine's, but also
# those of `env`, which says so in other words.
xm_has_started() {
    (($1 >= 125 && $1 <= 127)) || return 0
    ! tail -n 3 "$xm_dir/log" | grep -q -e '^docker: ' -e '^sh: .*cd: '
}
