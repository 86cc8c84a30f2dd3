"""``stagedoor completion``: scripts that complete commands in a shell."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from typing import Final, cast

from . import FINE
from .call import Call

__all__ = ["register"]

_BASH: Final = """\
# stagedoor completion; in ~/.bashrc: eval "$(stagedoor completion bash)"
_stagedoor() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}} command= word n
    local -a data=()
    for ((n = 1; n < COMP_CWORD; n++)); do
        word=${{COMP_WORDS[n]}}
        case $word in
            --data) data=(--data "${{COMP_WORDS[n+1]}}") ;;
            {commands}) [[ -n $command ]] || command=$word ;;
        esac
    done
    case $previous in
{values}
        --data|--music|--artwork) COMPREPLY=($(compgen -d -- "$current")); return ;;
    esac
    case $command:$current in
        :*) COMPREPLY=($(compgen -W "{words} {options}" -- "$current")) ;;
{flags}
        completion:*) COMPREPLY=($(compgen -W "bash zsh fish" -- "$current")) ;;
        {takers}) COMPREPLY=($(compgen -W "$(stagedoor "${{data[@]}}" list --quiet 2>/dev/null)" -- "$current")) ;;
        *) COMPREPLY=($(compgen -f -- "$current")) ;;
    esac
}}
complete -o filenames -F _stagedoor stagedoor
"""
_ZSH: Final = """\
# stagedoor completion; in ~/.zshrc: eval "$(stagedoor completion zsh)"
autoload -Uz compinit bashcompinit
(( $+functions[compdef] )) || compinit
bashcompinit
"""


def register(command: Callable[..., argparse.ArgumentParser], parser: argparse.ArgumentParser) -> None:
    """Add the command to a parser, which it tells of, with all commands that it has when the script is printed."""

    def print_script(call: Call) -> int:
        return _completion(call, parser)

    shell = command("completion", print_script, "Print a script that completes commands in a shell.", "bash|zsh|fish")
    shell.add_argument("shell", choices=("bash", "zsh", "fish"))


def _completion(call: Call, parser: argparse.ArgumentParser) -> int:
    commands = _commands(parser)
    if call.options.shell == "fish":
        call.out.raw("\n".join(_fish(parser, commands)))
        return FINE
    names = "|".join(commands)
    values: dict[str, dict[str, None]] = {}
    for command in (parser, *commands.values()):
        for action in command._actions:
            for option in action.option_strings if action.choices else ():
                values.setdefault(option, {}).update(dict.fromkeys(map(str, action.choices or ())))
    script = _BASH.format(
        commands=names,
        words=" ".join(commands),
        options=" ".join(_options(parser)),
        values="\n".join(
            f'        {o}) COMPREPLY=($(compgen -W "{" ".join(v)}" -- "$current")); return ;;'
            for o, v in values.items()
        ),
        flags="\n".join(
            f'        {name}:-*) COMPREPLY=($(compgen -W "{" ".join(_options(command))}" -- "$current")) ;;'
            for name, command in commands.items()
        ),
        takers="|".join(f"{name}:*" for name, command in commands.items() if _takes_id(command)),
    )
    call.out.raw(script if call.options.shell == "bash" else _ZSH + script)
    return FINE


def _fish(parser: argparse.ArgumentParser, commands: Mapping[str, argparse.ArgumentParser]) -> Iterator[str]:
    yield "# stagedoor completion; stagedoor completion fish > ~/.config/fish/completions/stagedoor.fish"
    yield "complete -c stagedoor -f"
    seen = f"__fish_seen_subcommand_from {' '.join(commands)}"
    for name, command in commands.items():
        yield f"complete -c stagedoor -n 'not {seen}' -a {name} -d {_fish_text(command.description or '')}"
    for name, command in (("", parser), *commands.items()):
        when = f"__fish_seen_subcommand_from {name}" if name else f"not {seen}"
        for action in command._actions:
            words = [f"{'-l' if o.startswith('--') else '-s'} {o.lstrip('-')}" for o in action.option_strings]
            if words and action.help is not argparse.SUPPRESS:
                value = " -x" if action.choices else " -r -F" if action.nargs != 0 else ""
                choices = f" -a {_fish_text(' '.join(map(str, action.choices)))}" if action.choices else ""
                yield f"complete -c stagedoor -n '{when}' {' '.join(words)}{value}{choices}"
        if _takes_id(command):
            yield f"complete -c stagedoor -n '{when}' -a '(stagedoor list --quiet 2>/dev/null)'"
        elif name in ("add", "upload"):
            yield f"complete -c stagedoor -n '{when}' -F"


def _fish_text(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _commands(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    choices = next(a.choices for a in parser._actions if isinstance(a.choices, dict))
    return cast("Mapping[str, argparse.ArgumentParser]", choices)


def _options(parser: argparse.ArgumentParser) -> list[str]:
    return [o for a in parser._actions for o in a.option_strings if o.startswith("--")]


def _takes_id(parser: argparse.ArgumentParser) -> bool:
    return any(action.dest == "id" and not action.option_strings for action in parser._actions)
