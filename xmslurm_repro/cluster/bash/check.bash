# What a launch would need, as seen on the login node. Arguments: options of a job.
place=
features
scheduler_check "$@"
free=$(df -Pm "$xm_state" | awk 'NR == 2 { print $4 }')
inodes=$(df -Pi "$xm_state" | awk 'NR == 2 { print $4 }')
((free >= 1024)) && good=1 || good=0
fact 'free space' "$good" "$free MiB and $inodes files in $xm_state"
exit 0
