"""The `az` commands of the documentation, read by the real parser of the Azure CLI. Nothing is sent."""

import contextlib
import io
import os
import re
import shlex
import subprocess
import tempfile
import unittest
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent.parent
# No home of anybody, so no login and no extension.
HOME = tempfile.TemporaryDirectory()
os.environ |= {"AZURE_CONFIG_DIR": HOME.name, "AZURE_CORE_COLLECT_TELEMETRY": "no"}

from azure.cli.core import get_default_cli  # noqa: E402
from azure.cli.core.commands import AzCliCommandInvoker, CommandResultItem  # noqa: E402


def pages():
    listed = subprocess.run(["git", "ls-files", "-z", "*.md"], cwd=ROOT, check=True, capture_output=True, text=True)
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def code(text):
    """The shell commands of a page: its blocks, and what stands between backticks in a line, where it has options."""
    for block in re.findall(r"^ *```sh\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL):
        yield block.replace("\\\n", " ")
    prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from (found.replace("\n", " ") for found in re.findall(r"`(az [^`]+ -[^`]+)`", prose))


def commands(script):
    """The `az` commands in a script, each as its arguments, those within others included."""
    # Within double quotes what the shell would put in stays a word.
    for at in (match.start() for match in re.finditer(r"(?<![\w.-])az (?=[a-z])", script)):
        lexer = shlex.shlex(script[at:], posix=True, punctuation_chars="();<>|&\n")
        lexer.whitespace = " \t"
        lexer.whitespace_split = True
        lexer.commenters = ""
        words = []
        with contextlib.suppress(ValueError):
            for word in lexer:
                if set(word) <= set("();<>|&\n"):
                    # `$(…)` is a value of its own, and read by itself.
                    if word == "(" and words and words[-1].endswith("$"):
                        words[-1] += "value"
                        depth = 1
                        while depth and (word := next(lexer)):
                            depth += word.count("(") - word.count(")")
                        continue
                    break
                words.append(word)
        yield words[1:]


def told(words):
    """What the Azure CLI has against a command: nothing when it would run it, or asks for a login first."""
    errors = io.StringIO()
    ran = mock.Mock(return_value=CommandResultItem(None))
    with (
        mock.patch.object(AzCliCommandInvoker, "_run_job", ran),
        contextlib.redirect_stderr(errors),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        try:
            end = get_default_cli().invoke([*words, "--only-show-errors"])
        except SystemExit as exit:
            end = exit.code
    # Wrong use ends with 2.
    return f"az {shlex.join(words)}: {errors.getvalue().strip()}" if end == 2 else None


class Recipes(unittest.TestCase):
    def test_each_command_of_the_documentation_is_one_that_the_azure_cli_knows(self):
        found = {tuple(words) for page in pages() for script in code(page.read_text()) for words in commands(script)}
        found.discard(())
        self.assertGreater(len(found), 10)
        wrong = [text for words in sorted(found) if (text := told(list(words)))]
        self.assertEqual(wrong, [], "\n".join(wrong))

    def test_commands_that_it_does_not_know_are_found(self):
        for script in (
            "az monitor data-collection rule show -g GROUP -n RULE",
            "az functionapp show --nobody",
            "az deployment group show",
        ):
            self.assertIsNotNone(told(next(commands(script))), script)
        inner = "x=$(az group show -n A) && az rest --url \"https://a/$(az account show --query id)?b=c\" | jq ."
        self.assertEqual(
            list(commands(inner))[0::2], [["group", "show", "-n", "A"], ["account", "show", "--query", "id"]]
        )


if __name__ == "__main__":
    unittest.main()
