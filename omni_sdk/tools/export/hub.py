"""Files of a checkpoint on the Hugging Face hub, each downloaded when it is asked for and kept in the hub's cache."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from omni_sdk.errors import ModelError

logger = logging.getLogger(__name__)


def files(repository: str, *, revision: str | None, local_files_only: bool) -> Callable[[str], Path | None]:
    """Give a function from a file's name to its local path.

    Parameters
    ----------
    repository : str
        The hub id, `owner/name`.
    revision : str, optional
        Branch, tag or commit.
    local_files_only : bool
        Look only in the local cache.

    Returns
    -------
    callable
        Downloads a file on first use; gives None where the repository has no such file.

    Raises
    ------
    ModelError
        Where `huggingface_hub` is not installed. The function raises it where the repository or the revision does
        not exist, needs a login, or cannot be reached.
    """
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError as error:
        raise ModelError(
            f"Expected the package huggingface_hub to fetch {repository!r}, got none - at export",
            hint="pip install 'omni-sdk[export]', or give a local folder",
        ) from error

    def find(name: str) -> Path | None:
        logger.info("fetching %s of %s", name, repository)
        try:
            path = huggingface_hub.hf_hub_download(
                repository, name, revision=revision, local_files_only=local_files_only
            )
        except errors.LocalEntryNotFoundError as error:
            if local_files_only:
                return None
            raise _unreachable(repository, name, error) from error
        except errors.EntryNotFoundError:
            return None
        except (errors.HfHubHTTPError, errors.HFValidationError, OSError) as error:
            raise _unreachable(repository, name, error) from error
        return Path(path)

    return find


def _unreachable(repository: str, name: str, error: Exception) -> ModelError:
    return ModelError(
        f"Expected {name} of {repository!r} on the hub, got {type(error).__name__} - at export",
        hint="there is no local folder of that name; check the id, the network and `hf auth login`",
    )
