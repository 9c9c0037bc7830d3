# What inputs are, by name of their content: looked at whenever somebody asks, read only when they
# look touched since.

# xm_input_stamp PATH: what moves when anything in it is touched.
xm_input_stamp() {
    local sum
    sum=$(find "$1" -printf '%P %y %s %T@ %C@ %i %l\0' | sort -z | sha256sum) || return 1
    printf '%s' "${sum%% *}"
}

# xm_measure PATH: sets xm_kind, xm_digest, xm_real and xm_stamp; or xm_why, and fails.
xm_measure() {
    local cache key lock
    xm_kind=
    xm_real=$(realpath -e -- "$1" 2>/dev/null) || { xm_why="there is no $1, or it cannot be reached"; return 1; }
    if [[ -f $xm_real ]]; then xm_kind=file
    elif [[ -d $xm_real ]]; then xm_kind=folder
    else xm_why="$1 is neither a file nor a folder"; return 1; fi
    xm_stamp=$(xm_input_stamp "$xm_real" 2>"$xm_work/why") || { xm_unreadable "$1"; return 1; }
    key=$(printf '%s' "$xm_real" | sha256sum) && mkdir -p "$xm_state/inputs" || return 1
    cache=$xm_state/inputs/${key%% *}
    xm_recall "$cache" && return
    # Of many who need it, one reads it. The lock saves work only.
    exec {lock}>"$cache.lock" && flock -w 86400 "$lock" 2>/dev/null
    xm_recall "$cache" || xm_read_input "$1" "$cache"
    local code=$?
    exec {lock}>&-
    return "$code"
}

xm_unreadable() { xm_why="$1 cannot be read: $(head -n 3 "$xm_work/why" | tr '\n' ';' | head -c 400)"; }

xm_recall() {  # CACHE
    local stamp kind digest
    [[ -r $1 ]] && read -r stamp kind digest <"$1" || return 1
    [[ $stamp == "$xm_stamp" && $kind == "$xm_kind" && ${#digest} == 64 ]] && xm_digest=$digest
}

xm_read_input() {  # PATH CACHE
    local sum later
    if [[ $xm_kind == file ]]; then
        sum=$(sha256sum 2>"$xm_work/why" <"$xm_real") || { xm_unreadable "$1"; return 1; }
    else
        xm_check_folder "$1" || return 1
        sum=$(xm_list_folder "$xm_real" 2>"$xm_work/why" | sha256sum) || { xm_unreadable "$1"; return 1; }
    fi
    xm_digest=${sum%% *}
    later=$(xm_input_stamp "$xm_real" 2>/dev/null)
    [[ $later == "$xm_stamp" ]] || { xm_why="$1 changed while it was read"; return 1; }
    # What was touched just now may be touched again without a trace in its time stamps.
    [[ -n $(find "$xm_real" -newerct '2 seconds ago' -print -quit 2>/dev/null) ]] && return 0
    printf '%s %s %s\n' "$xm_stamp" "$xm_kind" "$xm_digest" >"$2.new.$$.$HOSTNAME" && mv -f "$2.new.$$.$HOSTNAME" "$2"
    return 0
}

# What no record could hold, or no container could show.
xm_check_folder() {  # PATH
    local odd path target
    odd=$(find "$xm_real" ! -type f ! -type d ! -type l -printf '%P;' -quit 2>/dev/null)
    [[ -z $odd ]] || { xm_why="$1 holds what is no file, folder or link: ${odd%;}"; return 1; }
    while IFS= read -r -d '' path && IFS= read -r -d '' target; do
        if [[ $target == /* ]] || xm_leads_out "$path" "$target"; then
            xm_why="a link in $1 leads out of it, where no job can follow: $path -> $target"
            return 1
        fi
    done < <(find "$xm_real" -type l -printf '%P\0%l\0' 2>/dev/null)
}

xm_leads_out() {  # PATH_OF_LINK TARGET
    local part depth=0
    local -
    set -f
    local IFS=/
    for part in ${1%"${1##*/}"} $2; do
        case $part in
            '' | .) ;;
            ..) ((depth-- > 0)) || return 0 ;;
            *) depth=$((depth + 1)) ;;
        esac
    done
    return 1
}
