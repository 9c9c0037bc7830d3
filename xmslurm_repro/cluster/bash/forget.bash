# Remove secrets of submissions. Tokens on standard input, a line each.
while read -r token; do
    [[ $token =~ ^[a-z0-9]+$ ]] && rm -rf -- "$xm_state/secrets/$token"
done
exit 0
