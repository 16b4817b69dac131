# Completion of weightctl for bash; printed by `weightctl completions bash`.
_weightctl() {
    local line=${COMP_LINE:0:COMP_POINT} words=() last=0 i word candidate
    # Bash also splits words at `=` and `:`. Join them: SERVER=WEIGHT and an address are one word each.
    for ((i = 0; i <= COMP_CWORD; i++)); do
        if [[ ${#words[@]} -eq 0 || $line == [[:space:]]* ]]; then
            line=${line#"${line%%[![:space:]]*}"}
            last=${#words[@]}
            words[last]=
        fi
        # Use the word at the cursor only up to the cursor.
        if ((i < COMP_CWORD)); then word=${COMP_WORDS[i]}; else word=$line; fi
        words[last]+=$word
        line=${line#"$word"}
    done
    # Bash keeps this part of the last word. A reply must not repeat it.
    local kept=${words[last]%"$2"}
    COMPREPLY=()
    while IFS=$'\t' read -r candidate _; do
        # No space: a weight or the rest of a path follows.
        [[ $candidate != *[=/] ]] || compopt -o nospace 2>/dev/null
        COMPREPLY+=("${candidate#"$kept"}")
    done < <(weightctl __complete "${words[@]:1}" 2>/dev/null)
}
complete -F _weightctl weightctl
