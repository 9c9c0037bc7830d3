# The list of an attempt's outputs. Arguments: token, task, attempt.
cat -- "$xm_state/runs/$1/$2/$3/outputs.sha256"
