# One output, as its bytes are. Arguments: token, task, attempt, f or l, path in octal escapes.
trap - PIPE HUP
path=$(printf '%bx' "$5")
path=$xm_state/runs/$1/$2/$3/outputs/${path%x}
case $4 in
    f) cat <"$path" ;;
    l) find "$path" -maxdepth 0 -printf '%l' ;;
esac
