# Completion of weightctl for fish; printed by `weightctl completions fish`.
function __weightctl_complete
    set -l words (commandline --current-process --tokenize --cut-at-cursor)
    weightctl __complete $words[2..-1] (commandline --current-token --cut-at-cursor) 2>/dev/null
end
complete --command weightctl --no-files --keep-order --arguments '(__weightctl_complete)'
