# Whom jobs can be charged to, where they may run, and which limits there are.
place=
scheduler_charges
exit 0
