"""HF Jobs of an ablation, one for each run: what they cost; start them, look at them, withdraw them.

The Hub's own list of jobs is the record: a label names the ablation, another the run. So a start whose answer
was lost is found again, and several machines may watch one ablation.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TypeVar

import httpx2
from huggingface_hub import HfApi, JobHardwareInfo, JobInfo, Volume, get_token
from huggingface_hub.errors import HfHubHTTPError, JobNotFoundError

from pipelines.errors import RunFailed, UserError
from pipelines.hub.client import LOG_IN, Patience, Unavailable, in_words, retried, worth_a_retry
from pipelines.hub.messages import (
    HardwareAnswer,
    HardwareRequest,
    JobLogAnswer,
    JobLogRequest,
    JobPreflightAnswer,
    JobPreflightRequest,
    JobsAnswer,
    JobsRequest,
    JobState,
    WithdrawAnswer,
    WithdrawRequest,
)

WHERE = "--executor hf-jobs"
ABLATION, RUN = "attnlab", "run"  # labels of a job
WAITS = "SCHEDULING"
ENDED = ("COMPLETED", "CANCELED", "ERROR", "DELETED")  # stages of a job
PER_HOUR = {"second": 3600, "minute": 60, "hour": 1}
MOST_LINES = 200  # of a job's log
Result = TypeVar("Result")


def is_alive(stage: str) -> bool:
    """Whether a job in this stage waits or runs; so does one in a stage that this client does not know."""
    return stage not in ENDED


def hardware(request: HardwareRequest, patience: Patience) -> HardwareAnswer:
    """Return the flavors of jobs, with their prices in dollars per hour.

    Raises:
        RunFailed: the Hub cannot be reached.
    """
    step = "asking what jobs cost"
    listed = retried(step, HfApi().list_jobs_hardware, Patience(patience.seconds / 30))
    return {"dollars_per_hour": {one.name: _per_hour(one) for one in listed}}


def _per_hour(one: JobHardwareInfo) -> float:
    if one.unit_label not in PER_HOUR:
        raise RunFailed(f"the Hub states the price of {one.name} by the {one.unit_label}, which is not known")
    return one.unit_cost_usd * PER_HOUR[one.unit_label]


def job_preflight(request: JobPreflightRequest, patience: Patience) -> JobPreflightAnswer:
    """Check what the jobs will need, and return who pays and the prices. Nothing is started.

    Raises:
        UserError: the Hub does not answer, the token may not start jobs for the namespace, the bucket is not
            there, or a secret is not set.
    """
    _values(request["secrets"])
    if get_token() is None:
        raise UserError(WHERE, "there is no token for the Hub", accepted=LOG_IN)
    api, namespace = HfApi(), request["namespace"]
    try:
        prices = hardware({"repo": request["repo"]}, patience)
        owner = _soon("asking who the token belongs to", api.whoami, patience)
        known = [owner["name"], *(group["name"] for group in owner.get("orgs", []))]
        if namespace not in (None, *known):
            what, accepted = f"{owner['name']} is not a member of it", f"one of {', '.join(known)}"
            raise UserError("hf_jobs.namespace", what, namespace, accepted)
        bucket = request["bucket"]
        if bucket is not None:
            _soon("looking for the bucket", lambda: api.bucket_info(bucket), patience)
    except RunFailed as error:
        accepted = "check the network and HF_ENDPOINT; nothing was started"
        raise UserError(WHERE, str(error), api.endpoint, accepted) from error
    except HfHubHTTPError as error:
        if error.response.status_code == 404:
            what = "there is no such bucket on the Hub, or this token may not see it"
            raise UserError("hf_jobs.bucket", what, request["repo"], "hf buckets create makes one") from error
        raise in_words(error, WHERE) from error
    return {"namespace": namespace or owner["name"], **prices}


def _soon(step: str, call: Callable[[], Result], patience: Patience) -> Result:
    return retried(step, call, Patience(patience.seconds / 30))


def jobs(request: JobsRequest, patience: Patience) -> JobsAnswer:
    """Start a job for each run of `start` that has none; return the newest job of every run.

    Where the Hub cannot answer (or takes no more jobs) it stops there and says so: the next call goes on.

    Raises:
        UserError: the Hub refuses the jobs.
    """
    api = HfApi()
    answer: JobsAnswer = {"jobs": {}, "unavailable": None}
    try:
        listed = list(api.list_jobs(labels={ABLATION: request["ablation"]}, namespace=request["namespace"]))
        answer["jobs"], ids = _newest(listed), {job.id for job in listed}
        for run, job in request["known"].items():
            if job not in ids:  # the list may be older than its start
                answer["jobs"][run] = _inspected(api, request["namespace"], job)
        for run in request["start"]:
            if run not in answer["jobs"] or not is_alive(answer["jobs"][run]["stage"]):
                answer["jobs"][run] = _state(_started(api, request, run))
    except (Unavailable, httpx2.TransportError, ConnectionError, HfHubHTTPError) as error:
        reason = worth_a_retry(error)
        if reason is None:
            raise _refused(error, request["namespace"]) from error
        answer["unavailable"] = reason.reason
    return answer


def _started(api: HfApi, request: JobsRequest, run: str) -> JobInfo:
    return api.run_job(
        image=request["image"],
        command=[*request["command"], str(request["address"]), run],
        env=request["env"],
        secrets=_values(request["secrets"]),
        flavor=request["flavor"],
        timeout=60 * request["minutes"],
        name=f"attnlab-{run}",
        labels={ABLATION: request["ablation"], RUN: run},
        volumes=_volumes(request),
        namespace=request["namespace"],
    )


def _volumes(request: JobsRequest) -> list[Volume] | None:
    bucket = request["bucket"]
    return [Volume(type="bucket", source=bucket, mount_path=str(request["mount"]))] if bucket else None


def _newest(listed: Iterable[JobInfo]) -> dict[str, JobState]:
    """Return the newest job of each run."""
    found: dict[str, JobInfo] = {}
    for job in listed:
        run = (job.labels or {}).get(RUN)
        if run is not None and (run not in found or _begun(job) > _begun(found[run])):
            found[run] = job
    return {run: _state(job) for run, job in found.items()}


def _inspected(api: HfApi, namespace: str, job: str) -> JobState:
    try:
        return _state(api.inspect_job(job_id=job, namespace=namespace))
    except JobNotFoundError:
        return {"id": job, "stage": "DELETED", "message": "the Hub does not know it any more", "url": ""}


def _begun(job: JobInfo) -> float:
    return job.created_at.timestamp() if job.created_at else 0.0


def _state(job: JobInfo) -> JobState:
    stage, message = str(getattr(job.status.stage, "value", job.status.stage)), job.status.message or ""
    return {"id": job.id, "stage": stage, "message": message, "url": job.url}


def withdraw_jobs(request: WithdrawRequest, patience: Patience) -> WithdrawAnswer:
    """Cancel the jobs of an ablation that have not begun, and return their number.

    Raises:
        RunFailed: the Hub cannot be reached.
    """
    api, namespace = HfApi(), request["namespace"]
    look = lambda: list(api.list_jobs(labels={ABLATION: request["ablation"]}, namespace=namespace))
    waiting = [job.id for job in _soon("looking for jobs", look, patience) if _state(job)["stage"] == WAITS]
    for job in waiting:
        _soon("cancelling a job", partial(api.cancel_job, job_id=job, namespace=namespace), patience)
    return {"withdrawn": len(waiting)}


def job_log(request: JobLogRequest, patience: Patience) -> JobLogAnswer:
    """Return the end of what a job has printed, with the values of its secrets masked."""
    api = HfApi()
    try:
        lines = list(
            api.fetch_job_logs(job_id=request["job"], namespace=request["namespace"], tail=MOST_LINES)
        )
    except (Unavailable, httpx2.HTTPError, HfHubHTTPError) as error:
        lines = [f"(the Hub does not show it: {type(error).__name__})"]
    text = "\n".join(line.rstrip("\n") for line in lines)
    for value in _values(request["secrets"]).values():
        text = text.replace(value, "***")
    return {"text": text}


def _values(secrets: list[str]) -> dict[str, str]:
    """Return the values of secrets in this shell; that of HF_TOKEN may be the one of the Hub's login.

    Raises:
        UserError: one is not set.
    """
    found = {name: os.environ.get(name) or (get_token() if name == "HF_TOKEN" else None) for name in secrets}
    for name, value in found.items():
        if not value:
            raise UserError("hf_jobs.secrets", f"{name} is not set in this shell", accepted=f"export {name}")
    return {name: value for name, value in found.items() if value}


def _refused(error: Exception, namespace: str) -> UserError | RunFailed:
    """Return a refusal of the Hub as a sentence; jobs that were started before it go on."""
    if not isinstance(error, HfHubHTTPError):
        return in_words(error, WHERE)
    status, reason = error.response.status_code, error.server_message or error.response.reason_phrase
    again = "correct it, and start the same command again; jobs that were started go on"
    words: Mapping[int, str] = {
        400: f"the Hub does not take the job (400): {reason}",
        402: f"{namespace} has no credit for jobs (402): {reason}",
        403: f"this token may not start jobs for {namespace} (403): {reason}",
        404: f"there is no {namespace} on the Hub, or this token may not start jobs there (404)",
        422: f"the Hub does not take the job (422): {reason}",
    }
    return UserError(WHERE, words[status], accepted=again) if status in words else in_words(error, WHERE)
