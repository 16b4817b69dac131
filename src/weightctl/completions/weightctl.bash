# Completions of weightctl for bash; printed by `weightctl completions bash`.
_weightctl() {
    local line=${COMP_LINE:0:COMP_POINT} words=() last=0 i word offer
    # Bash breaks words at `=` and `:` too; a server with its weight, or an address, is one.
    for ((i = 0; i <= COMP_CWORD; i++)); do
        if [[ ${#words[@]} -eq 0 || $line == [[:space:]]* ]]; then
            line=${line#"${line%%[![:space:]]*}"}
            last=${#words[@]}
            words[last]=
        fi
        # The word under the cursor counts as far as the cursor.
        if ((i < COMP_CWORD)); then word=${COMP_WORDS[i]}; else word=$line; fi
        words[last]+=$word
        line=${line#"$word"}
    done
    # What of the last word bash takes as settled, and must not be given again.
    local settled=${words[last]%"$2"}
    COMPREPLY=()
    while IFS=$'\t' read -r offer _; do
        # A weight, or the rest of a path, comes right behind.
        [[ $offer != *[=/] ]] || compopt -o nospace 2>/dev/null
        COMPREPLY+=("${offer#"$settled"}")
    done < <(weightctl __complete "${words[@]:1}" 2>/dev/null)
}
complete -F _weightctl weightctl
