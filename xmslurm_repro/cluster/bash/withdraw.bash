# Remove the folder of a submission that the scheduler refused. Argument: token.
token=$1
folder=$xm_state/submit/$token
[[ -d $folder ]] || exit 0
exec 9>"$folder/lock"
flock -w 90 9 2>/dev/null
[[ -s $folder/jobid ]] && exit 0
rm -rf -- "${folder:?}" "$xm_state/secrets/${token:?}"
rmdir "$xm_state/runs/$token" 2>/dev/null
exit 0
