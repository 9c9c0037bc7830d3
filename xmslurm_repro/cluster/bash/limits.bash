# How many tasks one submission may have. Arguments: account, partition and QOS, or nothing.
scheduler_limits "$@" | grep -E '^[0-9]+$' | sort -n | head -n 1
exit 0
