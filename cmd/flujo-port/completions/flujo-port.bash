# Completion of flujo-port for bash: commands, flags and values of flags, otherwise files.
_flujo_port() {
	local cur=${COMP_WORDS[COMP_CWORD]}
	local words=("${COMP_WORDS[@]:1:COMP_CWORD-1}")
	if [[ $cur == -* ]]; then
		words+=(-)
	fi
	# The program is not run by eval, so that completing a command line executes nothing in it.
	local replies=$("${1/#\~/$HOME}" "${words[@]}" --generate-bash-completion 2>/dev/null)
	COMPREPLY=($(compgen -W "$replies" -- "$cur"))
}
complete -o bashdefault -o default -F _flujo_port flujo-port
