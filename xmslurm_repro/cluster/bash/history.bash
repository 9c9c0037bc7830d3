# What the scheduler's accounting knows of jobs. Names on standard input, a line each; many fit on
# one command line, but not any number.
while mapfile -t -n 1000 names && ((${#names[@]})); do
    IFS=,
    scheduler_history "${names[*]}" || exit
    unset IFS
done
exit 0
