# What the scheduler's accounting knows of jobs. Names on standard input, a line each.
names=$(tr '\n' ',')
scheduler_history "${names%,}"
