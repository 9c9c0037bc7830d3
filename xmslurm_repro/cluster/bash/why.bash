# Why jobs ended that left no record, as far as Slurm wrote it into their own output. On standard
# input lines "token job"; prints "token job words" for those of which something is known.
while read -r token job; do
    [[ $token =~ ^[a-z0-9]+$ && $job =~ ^[0-9_+]+$ ]] || continue
    line=$(grep -a -h -s -E '^slurmstepd[^:]*: error: ' "$xm_state/submit/$token/slurm-$job.out" | tail -n 1)
    line=${line#*: error: }
    # What it repeats of the time and the job is said elsewhere.
    [[ -n $line ]] && printf '%s %s %s\n' "$token" "$job" "${line:0:300}"
done
exit 0
