# Completes `python integration.py ...` in bash: source deploy/completion.bash

_integration() {
    [[ ${COMP_WORDS[1]} == *integration.py ]] || return
    local IFS=$'\n'
    # shellcheck disable=SC2207 (macOS has a bash without mapfile)
    COMPREPLY=($(
        COMP_WORDS="${COMP_WORDS[*]:1}" COMP_CWORD=$((COMP_CWORD - 1)) \
            _INTEGRATION_COMPLETE=complete_bash "$1" "${COMP_WORDS[1]}"
    ))
}
complete -o default -F _integration python python3
