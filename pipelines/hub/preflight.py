"""Before anything is trained or staged: does the token work, may it write there, is the card acceptable?"""

from __future__ import annotations

from typing import Any

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError

from pipelines.errors import UserError
from pipelines.hub.client import LOG_IN, Patience, retried


def answer(request: dict[str, Any], patience: Patience) -> dict[str, Any]:
    """Check what a push will need. Nothing is created or changed.

    Args:
        request: `repo`; `card`, the text of a README.md; `private`; `base_model`, an id on the Hub or None.

    Returns:
        `user`; `exists`, whether the repository is there; `base_license`, that of the base model or None.

    Raises:
        UserError: no token, a token that cannot write there, a public repository where a private one is
            wanted, or a card that the Hub refuses.
        RunFailed: the Hub cannot be reached.
    """
    repo = request["repo"]
    if get_token() is None:
        raise UserError(repo, "there is no token for the Hub", accepted=LOG_IN)
    api = HfApi()
    user = retried("asking who the token belongs to", api.whoami, patience)
    _check_role(repo, user)
    exists = _exists(api, repo, bool(request.get("private")), patience)
    if exists:
        retried("asking for permission", lambda: api.auth_check(repo, write=True), patience)
    if request.get("card"):
        retried("checking the card", lambda: api._validate_yaml(request["card"]), patience)
    license_id = _license(api, request.get("base_model"), patience)
    return {"user": user["name"], "exists": exists, "base_license": license_id}


def _check_role(repo: str, user: dict[str, Any]) -> None:
    role = user.get("auth", {}).get("accessToken", {}).get("role")
    if role == "read":
        raise UserError(repo, "this token may only read", accepted=LOG_IN)
    namespace, groups = repo.split("/")[0], [one["name"] for one in user.get("orgs", [])]
    if namespace not in (user["name"], *groups):
        known = ", ".join([user["name"], *groups])
        raise UserError(repo, f"{user['name']} is no member of {namespace}", accepted=f"push to {known}")


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


def _license(api: HfApi, base_model: str | None, patience: Patience) -> str | None:
    """The licence that the card of the base model states; None where there is none to be read."""
    if base_model is None:
        return None
    try:
        info = retried("reading the base model's licence", lambda: api.model_info(base_model), patience)
    except HfHubHTTPError:
        return None
    stated = (info.card_data or {}).get("license")
    return stated if isinstance(stated, str) else None
