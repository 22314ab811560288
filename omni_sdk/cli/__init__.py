"""The command `omni-sdk`: one file a command, imported when it is called."""

from __future__ import annotations

import importlib
import sys

try:
    import click
except ImportError:
    sys.exit("The omni-sdk command needs click and rich.\n  hint: pip install 'omni-sdk[cli]'")
except KeyboardInterrupt:
    sys.exit(130)

from omni_sdk.errors import OmniError

COMMANDS = {
    "inspect": ("What a model is: inputs, outputs, operators, bytes, state.", "bench"),
    "doctor": ("What holds this device back, and the remedy.", "bench"),
    "prepare": ("Rewrite, fuse and quantize a model into a bundle for this device.", "prepare"),
    "tune": ("Measure settings on this device and keep the winner.", "bench"),
    "bench": ("Compare settings and peers side by side.", "bench"),
    "export": ("Build ONNX models from checkpoints.", "export"),
    "synth": ("Codes in, WAV out, streamed as it is made.", "export"),
    "serve": ("A model behind the Open Inference Protocol, on Ray Serve.", "ray"),
    "evaluate": ("Drift, word error rate, predicted MOS, listening tests, latency.", "eval"),
    "smoke": ("The on-device smoke test.", "cli"),
}
"""What each command does, and which extra of this package brings what it imports."""


class LazyGroup(click.Group):
    """Imports a command's file when the command is called, so that help stays quick and extras stay optional."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        ctx.meta[__name__] = name  # before its file is imported, which may be what fails
        command: click.Command = importlib.import_module(f"omni_sdk.cli.{name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, what) for name, (what, _) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except OmniError as error:
            raise click.ClickException(str(error)) from error
        except ModuleNotFoundError as error:
            package, name = (error.name or "").partition(".")[0], ctx.meta[__name__]
            if package in ("", "omni_sdk"):
                raise
            raise click.ClickException(
                f"Expected the package {package}, got none installed - at omni-sdk {name}"
                f"\n  hint: pip install 'omni-sdk[{COMMANDS[name][1]}]'"
            ) from error


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="omni-sdk")
def main() -> None:
    """Runs audio models on small CPU devices on ONNX Runtime."""
