# Types into an interactive zsh, presses Tab, and prints the line that came of it.
zmodload zsh/zpty
zshrc=$(mktemp -d)
print "PS1='ready> '; autoload -U compinit; compinit -u -D" >$zshrc/.zshrc
export ZDOTDIR=$zshrc TERM=dumb
zpty shell zsh -i
zpty -r -m shell seen '*ready> *'
# Ctrl-A goes to the beginning of the line.
zpty -w -n shell $'weightctl overr\tap\tbl\t90 gr\t10\Caprint -r -- line: \r'
zpty -r -m shell seen $'*\nline: *\r*'
print -r -- ${${seen##*$'\n'line: }%%$'\r'*}
rm -r $zshrc
