#compdef weightctl
# Completion of weightctl for zsh; printed by `weightctl completions zsh`.
_weightctl() {
    local candidate value
    local -a finished unfinished
    for candidate in ${(f)"$(weightctl __complete "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)"}; do
        value=${candidate%%$'\t'*}
        candidate=${value//:/\\:}:${candidate#*$'\t'}
        # No space: a weight or the rest of a path follows.
        if [[ $value == *[=/] ]]; then unfinished+=("$candidate"); else finished+=("$candidate"); fi
    done
    ((! $#finished)) || _describe -V 'weightctl' finished
    ((! $#unfinished)) || _describe -V 'weightctl' unfinished -S ''
}
# From a file in $fpath, this text is the body of the function. If sourced, it must be registered.
if [[ ${funcstack[1]} == _weightctl ]]; then _weightctl "$@"; else compdef _weightctl weightctl; fi
