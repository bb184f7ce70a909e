"""The checks before anything is trained or staged: the token, the right to write, the card."""

from __future__ import annotations

from typing import cast

from huggingface_hub import HfApi, ModelCard, get_token
from huggingface_hub.errors import HfHubHTTPError

from pipelines.errors import UserError
from pipelines.hub.client import LOG_IN, Patience, card_refused, retried
from pipelines.hub.messages import PreflightAnswer, PreflightRequest, TokenOwner


def preflight(request: PreflightRequest, patience: Patience) -> PreflightAnswer:
    """Check what a push will need. Nothing is created or changed.

    Raises:
        UserError: there is no token, or it cannot write there; or the repository is public and should be
            private; or the Hub refuses the card.
        RunFailed: the Hub cannot be reached.
    """
    repo = request["repo"]
    if get_token() is None:
        raise UserError(repo, "there is no token for the Hub", accepted=LOG_IN)
    api = HfApi()
    owner = cast(TokenOwner, retried("asking who the token belongs to", api.whoami, patience))
    _check_role(repo, owner)
    exists = _exists(api, repo, request["private"], patience)
    if exists:
        retried("asking for permission", lambda: api.auth_check(repo, write=True), patience)
    _check_card(repo, request["card"], patience)
    base_license = _license(api, request["base_model"], patience)
    return {"user": owner["name"], "exists": exists, "base_license": base_license}


def _check_role(repo: str, owner: TokenOwner) -> None:
    role = owner.get("auth", {}).get("accessToken", {}).get("role")
    if role == "read":
        raise UserError(repo, "this token may only read", accepted=LOG_IN)
    namespace, groups = repo.split("/")[0], [group["name"] for group in owner.get("orgs", [])]
    if namespace not in (owner["name"], *groups):
        known = ", ".join([owner["name"], *groups])
        raise UserError(repo, f"{owner['name']} is not a member of {namespace}", accepted=f"push to {known}")


def _exists(api: HfApi, repo: str, private: bool, patience: Patience) -> bool:
    try:
        info = retried("looking for the repository", lambda: api.repo_info(repo), patience)
    except HfHubHTTPError as error:
        if error.response.status_code == 404:
            return False
        raise
    if private and not info.private:
        raise UserError(repo, "is public, and --private was asked for", accepted="make it private on the Hub")
    return True


def _check_card(repo: str, text: str, patience: Patience) -> None:
    card = ModelCard(text, ignore_metadata_errors=True)  # the Hub decides, not the client's own reading
    try:
        retried("checking the card", card.validate, patience)
    except ValueError as error:  # its text is the Hub's answer
        raise card_refused(repo, str(error)) from error


def _license(api: HfApi, base_model: str | None, patience: Patience) -> str | None:
    """Return the licence that the card of the base model states; None where it cannot be read."""
    if base_model is None:
        return None
    try:
        info = retried("reading the base model's licence", lambda: api.model_info(base_model), patience)
    except HfHubHTTPError:
        return None
    stated = info.card_data.to_dict().get("license") if info.card_data else None
    return stated if isinstance(stated, str) else None
