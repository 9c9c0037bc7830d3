# The image as trees of files: unpacked once, put together of hard links, checked at every start.

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

# A blob that is not what its name says goes away, so that the next launch sends it again.
xm_verify_blob() {  # BLOB
    local blob=$xm_state/blobs/sha256/$1 got
    [[ -r $blob ]] || { xm_say "blob sha256:$1 is missing"; return 1; }
    got=$(sha256sum <"$blob")
    [[ ${got%% *} == "$1" ]] && return 0
    mkdir -p "$xm_state/damaged" && mv -f "$blob" "$xm_state/damaged/$1.$xm_attempt" 2>/dev/null
    xm_say "blob sha256:$1 is damaged"
    return 1
}

# All that an engine reads of the image.
xm_verify_blobs() {
    local layer words
    for layer in "${xm_root_layers[@]}" "${xm_code_layers[@]}"; do
        words=($layer)
        xm_verify_blob "${words[1]}" || return
    done
    xm_verify_blob "${xm_image#sha256:}" && xm_verify_blob "${xm_config#sha256:}"
}

# xm_unpack DIFF_ID BLOB DECOMPRESSOR: have the layer in layers/, with its list beside it.
xm_unpack() {
    local final=$xm_state/layers/$1 blob=$xm_state/blobs/sha256/$2 new got fifo=$xm_local/fifo tar
    [[ -d $final ]] && return 0
    new=$final.new.$xm_attempt${xm_rank:+-$xm_rank}
    xm_verify_blob "$2" || return 1
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
    xm_list "$new" >"$new.list" || { rm -rf -- "$new" "$new.list"; return 1; }
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

# The layers of code are many, and no two hold the same file: all at once, where that is so.
xm_overlay_code() {
    local tree=$1 diff_id layers=()
    shift
    [[ $tree == "$xm_state"/code/* ]] || return 1
    for diff_id; do layers+=("$xm_state/layers/$diff_id/."); done
    [[ -z $(find "${layers[@]}" -name '.wh.*' -print -quit) ]] || return 1
    cp -a -l -f "${layers[@]}" "$tree/" 2>/dev/null && return 0
    rm -rf -- "$tree"
    mkdir -p "$tree"
    return 1
}

# xm_assemble TREE MOUNT_POINTS DIFF_ID...: put a tree together and check that every path in it is
# one that a layer brought, as it was when the layer was unpacked.
xm_assemble() {
    local final=$1 points=$2 new list point diff_id stamp
    shift 2
    [[ -d $final ]] && return 0
    new=$final.new.$xm_attempt${xm_rank:+-$xm_rank} list=$final.list.$xm_attempt${xm_rank:+-$xm_rank}
    rm -rf -- "$new"
    mkdir -p "$new" || return 1
    xm_overlay_code "$new" "$@" || for diff_id; do
        xm_overlay "$xm_state/layers/$diff_id" "$new" || { rm -rf -- "$new"; return 1; }
    done
    : >"$list.ours"
    for point in $points; do
        [[ -e $new/$point || -L $new/$point ]] && continue
        case $point in
            *.conf | *hosts) : >"$new/$point" && printf 'f 644 0 %s\0%s  ./%s\0' "$point" "$xm_sha256_of_nothing" "$point" ;;
            *) mkdir -m 755 "$new/$point" && printf 'd 755 %s\0' "$point" ;;
        esac >>"$list.ours" || return 1
    done
    stamp=$(xm_stamp "$new") && xm_list "$new" >"$list" || { rm -rf -- "$new" "$list" "$list.ours"; return 1; }
    for diff_id; do cat "$xm_state/layers/$diff_id.list" || return 1; done |
        sort -z -u - "$list.ours" | comm -z -23 "$list" - >"$list.odd"
    if [[ -s $list.odd ]]; then
        xm_say "not as unpacked: $(head -z -n 3 "$list.odd" | tr '\0' ';')"
        xm_set_aside "$new" "$@"
        return 1
    fi
    # Every byte was just read: what was touched since the stamp was taken will show.
    mv -f "$list" "$final.list" && printf '%s\n' "${stamp%% *}" >"$final.stamp" &&
        mv -T "$new" "$final" 2>/dev/null && : >"$xm_local/fresh" || rm -rf -- "$new"
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
        printf '%s\n' "${stamp%% *}" >"$tree.stamp.$xm_attempt${xm_rank:+-$xm_rank}" && mv -f "$tree.stamp.$xm_attempt${xm_rank:+-$xm_rank}" "$tree.stamp"
        return 0
    fi
    xm_odd=$(comm -z -3 "$xm_local/list" "$tree.list" | tr -d '\t' | head -z -n 1 | tr '\0' ' ')
    xm_set_aside "$tree" "$@"
    return 1
}

# xm_refuse_tree WHAT WHY: where there is no room we were given the right things all the same.
xm_refuse_tree() {
    case $2 in
        *'No space left'* | *'quota exceeded'* | *'Read-only file system'*)
            xm_finish failed '' "$1there is no space left in $xm_state ($(grep -m 1 -o -e 'No space left.*' -e 'Disk quota.*' -e 'Read-only.*' <<<"$2"))"
            ;;
    esac
    # What we say of it comes last; what tools said of every single file, before.
    xm_refuse "$1$(tail -n 2 <<<"$2" | tail -c 1000)"
}

# xm_have_tree VARIABLE FOLDER KEY FULL MOUNT_POINTS LAYER...: a tree, made if need be, checked.
# LAYER is "<diff id> <blob> <decompressor>".
xm_have_tree() {
    local -n xm_tree_out=$1
    local folder=$2 tree=$xm_state/$2/$3 full=$4 points=$5 layer words diff_ids=() why
    shift 5
    for layer; do diff_ids+=("${layer%% *}"); done
    if [[ ! -d $tree ]]; then
        mkdir -p "$xm_state/layers" "$xm_state/$folder"
        for layer; do
            words=($layer)
            [[ -d $xm_state/layers/${words[0]} ]] ||
                why=$(xm_alone "$xm_state/layers/${words[0]}.lock" xm_unpack "${words[0]}" "${words[1]}" "${words[*]:2}" 2>&1) ||
                    xm_refuse_tree '' "$why"
        done
        why=$(xm_alone "$tree.lock" xm_assemble "$tree" "$points" "${diff_ids[@]}" 2>&1) ||
            xm_refuse_tree "$folder cannot be put together: " "$why"
        [[ -e $xm_local/fresh ]] && rm -f "$xm_local/fresh" && full=0
    fi
    xm_check "$tree" "$full" "${diff_ids[@]}" ||
        xm_refuse "$folder is not what was unpacked, beginning with: ${xm_odd-$tree}"
    xm_tree_out=$tree
}

xm_have_trees() {
    local sum points='xm xm/code xm/driver xm/inputs xm/outputs xm/pycache tmp proc dev sys run'
    points+=" etc etc/resolv.conf etc/hosts ${xm_more_points-}"
    # Trees that another version of ours put together may lack a mount point.
    sum=$(sha256sum <<<"$points")
    xm_root_key=$xm_root_key-${sum::8}
    xm_have_tree xm_root roots "$xm_root_key" "$xm_full_check" "$points" "${xm_root_layers[@]}"
    xm_code=$xm_root/xm/code
    if ((${#xm_code_layers[@]})); then
        xm_have_tree xm_code code "$xm_code_key" 1 'xm xm/code' "${xm_code_layers[@]}"
        xm_code=$xm_code/xm/code
    fi
    xm_attested=$xm_image
}
