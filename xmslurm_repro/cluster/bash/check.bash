# What a launch would need. Lines "name 0|1 value".
fact() { printf 'fact %s %s %s\n' "$1" "$2" "${3//$'\n'/; }"; }
scheduler_check
fact host 1 "$(uname -nsr)"
free=$(df -Pm "$xm_state" | awk 'NR == 2 { print $4 }')
((free >= 1024)) && fact 'free-space' 1 "$free MiB in $xm_state" || fact 'free-space' 0 "$free MiB in $xm_state"
if unshare -U true 2>/dev/null; then fact user-namespaces 1 yes; else fact user-namespaces 1 'no: bubblewrap needs them'; fi
