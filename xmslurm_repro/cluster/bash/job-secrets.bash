# Secrets: from a file of this user's into the command, past everything that others can see.

# xm_read_secrets: the fields NAME=value of those that the submission names.
xm_read_secrets() {
    local file=$xm_state/secrets/$xm_token/values field name
    xm_secret_fields=()
    ((${#xm_secret_names[@]})) || return 0
    [[ -r $file ]] || xm_finish failed '' "the secrets ${xm_secret_names[*]} are not on the cluster any more: launch or replay again"
    [[ -O $file && ! -L $file && $(stat -c %a "$file") == 600 ]] || xm_refuse "others can read or change $file"
    while IFS= read -r -d '' field; do
        # Of a group's secrets each member gets its own.
        for name in "${xm_secret_names[@]}"; do
            [[ $field == "$name="* ]] && xm_secret_fields+=("$field")
        done
    done <"$file"
    for name in "${xm_secret_names[@]}"; do
        for field in "${xm_secret_fields[@]}"; do [[ $field == "$name="* ]] && continue 2; done
        xm_refuse "the secret $name was not sent"
    done
}

# The command lines of a runtime, of env and of the command can be read by everybody on the node.
# So a shell in the container reads the values from its standard input, and env adds the rest.
xm_hide_secrets() {
    local field path=/usr/local/bin:/usr/bin:/bin
    xm_stdin=()
    ((${#xm_secret_fields[@]})) || return 0
    xm_stdin=(--interactive)
    for field in "${xm_env[@]}"; do [[ $field == PATH=* ]] && path=${field#PATH=}; done
    xm_argv=(sh -c "$xm_tell" sh env -u PWD -u OLDPWD -u SHLVL -u _ -u PATH "${xm_env[@]}" "${xm_argv[@]}")
    xm_env=("PATH=$path")
}

xm_tell='_x=
while IFS= read -r _y; do _x="$_x$_y
"; done
eval "$_x"
unset _x _y
exec "$@" </dev/null'

# What that shell reads.
xm_say_secrets() {
    local field value quote=\'
    for field in "${xm_secret_fields[@]}"; do
        value=${field#*=}
        printf "export %s='%s'\n" "${field%%=*}" "${value//$quote/$quote\\$quote$quote}"
    done
}

# Nothing of this submission will ask for them again: not this task, and none of the others.
xm_forget_secrets() {  # STATE
    local folder=$xm_state/secrets/$xm_token done
    ((${#xm_secret_names[@]})) && [[ -d $folder ]] || return 0
    # It will be started again.
    [[ $1 == preempted ]] && return 0
    : >"$folder/done.$xm_task"
    done=("$folder"/done.*)
    ((${#done[@]} < xm_task_count)) || rm -rf -- "$folder"
}
