#compdef weightctl
# Completions of weightctl for zsh; printed by `weightctl completions zsh`.
_weightctl() {
    local offer value
    local -a whole open
    for offer in ${(f)"$(weightctl __complete "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)"}; do
        value=${offer%%$'\t'*}
        offer=${value//:/\\:}:${offer#*$'\t'}
        # A weight, or the rest of a path, comes right behind.
        if [[ $value == *[=/] ]]; then open+=("$offer"); else whole+=("$offer"); fi
    done
    ((! $#whole)) || _describe -V 'weightctl' whole
    ((! $#open)) || _describe -V 'weightctl' open -S ''
}
# Read as a file of $fpath it is the function itself; sourced, it has to be made known.
if [[ ${funcstack[1]} == _weightctl ]]; then _weightctl "$@"; else compdef _weightctl weightctl; fi
