# What `clusters check` tells of a machine without a scheduler.

scheduler_check() {  # OPTIONS_OF_A_JOB
    fact scheduler 1 'this launcher, one machine'
    fact processors 1 "$(nproc)"
}

scheduler_charges() { :; }

scheduler_probe() {  # SCRIPT SECONDS OPTIONS_OF_A_JOB
    timeout "$2" bash --norc --noprofile "$1"
}
