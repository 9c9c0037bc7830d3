# Folders as lists of digests: of outputs and of inputs, at the end of jobs and before they begin.
# xm_work is a folder for what is on the way.

# xm_sums: SHA-256 of the files whose paths, ended by NUL, come on standard input; in their order,
# ended by NUL. As many at a time as there are processors.
xm_sums() {
    local work=$xm_work/sums count share cores
    rm -rf -- "$work" && mkdir -p "$work" && cat >"$work/paths" || return 1
    count=$(tr -dc '\0' <"$work/paths" | wc -c)
    ((count)) || return 0
    cores=$(nproc)
    share=$(((count + 4 * cores - 1) / (4 * cores)))
    ((share > 500)) && share=500
    split -t '\0' -l "$share" -a 6 -- "$work/paths" "$work/in." || return 1
    printf '%s\0' "$work"/in.* |
        xargs -0 -P "$cores" -I{} bash --norc --noprofile -c 'xargs -0 sha256sum -z -- <"$1" >"$1.sums"' sums {} || return 1
    cat "$work"/in.*.sums | cut -z -c -64
}

# xm_list_folder FOLDER: records "<sha256> <size> <f or l> <path>" of what is in it, ended by NUL,
# in order of their paths. A link's content is its target, as in git.
xm_list_folder() (
    mkdir -p "$xm_work" && cd "$1" || exit 1
    find . -type f -printf '%P\0' >"$xm_work/files" || exit 1
    xargs -0 -r stat --printf='%s f\0' -- <"$xm_work/files" >"$xm_work/kinds" || exit 1
    xm_sums <"$xm_work/files" >"$xm_work/digests" || exit 1
    find . -type l -printf '%P\0%l\0' >"$xm_work/pairs" || exit 1
    rm -rf -- "$xm_work/links" && mkdir "$xm_work/links" || exit 1
    number=0
    while IFS= read -r -d '' path && IFS= read -r -d '' target; do
        number=$((number + 1))
        printf '%s' "$target" >"$xm_work/links/$number"
        printf '%s\0' "$path" >&4
        printf '%s l\0' "${#target}" >&5
    done <"$xm_work/pairs" 4>>"$xm_work/files" 5>>"$xm_work/kinds"
    ((number == 0)) || (cd "$xm_work/links" && seq "$number" | tr '\n' '\0' | xm_sums) >>"$xm_work/digests" || exit 1
    paste -z -d ' ' "$xm_work/digests" "$xm_work/kinds" "$xm_work/files" | sort -z -k4
)
