#compdef flujo-port
# Completion of flujo-port for zsh: commands, flags and values of flags, otherwise files. As a file
# called _flujo-port in a folder of $fpath it is loaded when it is needed.
_flujo-port() {
	local -a arguments replies
	arguments=("${(@)words[2,CURRENT-1]}")
	if [[ $words[CURRENT] == -* ]]; then
		arguments+=(-)
	fi
	replies=("${(@f)$(${~words[1]} "${(@)arguments}" --generate-bash-completion 2>/dev/null)}")
	if [[ -n $replies[1] ]]; then
		compadd -a replies
	else
		_files
	fi
}
if [[ $funcstack[1] == _flujo-port ]]; then
	_flujo-port "$@"
else
	compdef _flujo-port flujo-port
fi
