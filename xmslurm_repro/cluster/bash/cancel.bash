# Cancel jobs. Ids are the arguments.
scheduler_cancel "$@"
