"""Completion: what a shell proposes, asked as bash, zsh and fish ask."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.services import Place

SHELLS = ("bash", "zsh", "fish")


def proposed(place: Place, shell: str, *words: str) -> list[str]:
    """What is proposed behind these words, the last of which is being typed."""
    line = " ".join(("millrace", *words))
    asked = {"_MILLRACE_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": line}
    asked |= {"_TYPER_COMPLETE_FISH_ACTION": "get-args"} if shell == "fish" else {}
    asked |= {"COMP_WORDS": line, "COMP_CWORD": str(len(words))} if shell == "bash" else {}
    done = place.start("asked", **asked)
    assert done.wait() == 0, done.said
    assert "Traceback" not in done.said
    return done.printed.split()


@pytest.mark.parametrize("shell", SHELLS)
def test_commands_options_and_flows_are_proposed(place: Place, shell: str) -> None:
    place.flow("numbers")
    place.flow("names")
    found = " ".join(proposed(place, shell, "v"))
    assert "verify" in found
    assert "variants" in found
    assert "status" not in found
    assert "--until-empty" in " ".join(proposed(place, shell, "run", "--unt"))
    asking = (
        *("status", "top", "tap", "alerts", "alerts test", "verify", "check"),
        *("run", "produce", "where", "test", "dead ls", "dead replay"),
    )
    for command in map(str.split, asking):
        found = " ".join(proposed(place, shell, *command, "num"))
        assert "numbers" in found, command
        assert "names" not in found, command


@pytest.mark.parametrize("shell", SHELLS)
def test_a_wrong_file_proposes_nothing_and_says_nothing(place: Place, shell: str) -> None:
    (place.folder / "flows.yaml").write_text("flows: [")
    assert "Error" not in " ".join(proposed(place, shell, "status", "n"))


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_for_a_shell_is_printed_and_asks_millrace(place: Place, shell: str) -> None:
    shown = place.start("asked", _MILLRACE_COMPLETE=f"source_{shell}")
    assert shown.wait() == 0, shown.said
    assert f"complete_{shell}" in shown.printed
    if (program := shutil.which(shell)) is not None:
        script = place.folder / "script"
        script.write_text(shown.printed)
        assert subprocess.run([program, "-n", str(script)], capture_output=True).returncode == 0
