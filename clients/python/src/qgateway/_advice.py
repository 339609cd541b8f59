"""What to do about an error: one sentence for each reason, and for each status where there is no reason."""

from __future__ import annotations

_BY_REASON = {
    "API_KEY_INVALID": "set QGATEWAY_API_KEY to a valid key, or ask the operator for a new one.",
    "API_KEY_MISSING": "set QGATEWAY_API_KEY to your key, or pass api_key=.",
    "BACKEND_NOT_FOUND": "check the name; `qgateway backends` lists what there is.",
    "BACKEND_NOT_OPERATIONAL": "take another backend; `qgateway backends --operational` lists those that take jobs now.",
    "BUDGET_EXCEEDED": "wait until the budget is reset (`qgateway usage` tells when), or ask the operator for more.",
    "CALL_RATE_EXCEEDED": "make fewer calls a second: watch a job instead of asking for it again and again.",
    "CANCELLED_BY_CALLER": "submit the job again if the cancellation was a mistake.",
    "CANCELLED_UPSTREAM": "submit the job again; it was cancelled at the provider, and not through the gateway.",
    "CERTIFICATE_EXPIRED": "renew the certificate of tls_cert (QGATEWAY_TLS_CERT) and connect again.",
    "CERTIFICATE_UNKNOWN": "ask the operator to let your certificate in, or set QGATEWAY_API_KEY to your key.",
    "CREDENTIALS_REFUSED": "ask the operator to put a valid key of the account into the gateway; until then use another account.",
    "DOWNLOAD_CORRUPT": "download again; if it happens again, the stored data is damaged: tell the operator.",
    "ETAG_MISMATCH": "read the job again and decide anew: somebody changed it meanwhile.",
    "HISTORY_COMPACTED": "watch again without a resume token; the history after the token is no longer kept.",
    "INSTANCE_LIMIT": "wait, or use another account: the account is at a limit that its provider sets.",
    "INSTANCE_LIMIT_REACHED": "wait, or use another account: the account is at a limit that its provider sets.",
    "INSTANCE_REFUSED": "ask the operator to check the account's CRN and key; until then use another account.",
    "INVALID_FIELD": "correct the value as the message says and repeat.",
    "INVALID_PROGRAM": "correct the program as the message says; `transpile` maps a circuit to its backend.",
    "JOB_FINAL": "nothing: the job has already ended and cannot be changed in this way.",
    "JOB_NOT_FINAL": "wait until the job has ended, or cancel it first.",
    "JOB_NOT_FOUND": "check the id; `qgateway jobs` lists the jobs that you can see.",
    "LIMIT_EXCEEDED": "cut the job into several, or ask the operator for a larger limit.",
    "MEMORY_LIMIT_EXCEEDED": "use fewer qubits or fewer circuits per job, or ask the operator for a larger limit.",
    "PACED": "wait: the gateway sends the job as soon as the account may send one.",
    "PENDING_JOBS_EXCEEDED": "wait until some of your jobs have ended, or cancel those that are not needed.",
    "PROGRAM_NOT_UPLOADED": "upload the program again; uploads that no job uses are removed after a while.",
    "PROGRAM_TOO_LARGE": "cut the job into several, or ask the operator for a larger limit.",
    "PROVIDER_ERROR": "read job.logs(), then correct the circuits or submit the job again.",
    "PROVIDER_REJECTED": "change the job as the provider's words in the message say.",
    "PROVIDER_UNAVAILABLE": "wait and repeat, or use another account: the provider cannot be reached now.",
    "PROVIDER_UNREACHABLE": "wait: the gateway goes on by itself as soon as the provider answers.",
    "QUEUE_FULL": "submit again later, or take another backend.",
    "RATE_LIMITED": "wait and repeat: the provider wants fewer calls.",
    "REQUEST_ID_REUSED": "use a new request id; this one belongs to another request.",
    "RESULT_ABSENT": "the job ended without a result; its failure says why.",
    "RESULT_LIMIT_EXCEEDED": "use fewer shots or fewer circuits per job, or ask the operator for a larger limit.",
    "RESULT_NOT_READY": "wait for the job; `qgateway watch` follows it.",
    "RESULT_TOO_LARGE": "download the result instead; it does not fit into one message.",
    "ROLE_MISSING": "your key may not do this: ask the operator for the role that the message names.",
    "RPC_NOT_IMPLEMENTED": "this gateway does not offer the call; see its version with `qgateway server`.",
    "SERVER_STOPPING": "repeat the call in a moment; the gateway at {target} is restarting.",
    "SUBMISSION_RATE_EXCEEDED": "wait as long as the answer says, then submit again; several circuits can go in one job.",
    "SUBMISSION_UNKNOWN": "wait: the gateway finds out whether the provider has the job, and sends it at most once.",
    "TIME_LIMIT_EXCEEDED": "use fewer shots or fewer circuits per job, or ask the operator for a larger limit.",
    "TOKEN_EXPIRED": "get a new token from its issuer and put it in the place of the old.",
    "TOKEN_INVALID": "get a token for this gateway from its issuer, or use an API key.",
    "TOKEN_ISSUER_UNKNOWN": "get a token of an issuer that the gateway accepts, or use an API key.",
    "TOKEN_KEYS_UNAVAILABLE": "repeat in a moment; the gateway cannot reach the token's issuer now.",
    "TOO_MANY_STREAMS": "end some watches, or watch many jobs with one; then repeat.",
    "TOO_MANY_TRANSFERS": "wait until one of your uploads and downloads has ended, then repeat.",
    "UNSUPPORTED_OPTION": "leave the option out; `qgateway backend NAME` shows what a backend understands.",
    "UPLOAD_CORRUPT": "submit again; if it happens again, something on the way changes what you send.",
    "WORKER_CRASHED": "submit the job again; if it happens again, report the job id to the operator.",
}
"""By the reason of a failed call or of a failed job, and by the kind of reason for which a job waits."""

_BY_CODE = {
    "UNAVAILABLE": "is the gateway running at {target}? Check QGATEWAY_TARGET and QGATEWAY_TLS, then repeat.",
    "UNAUTHENTICATED": "set QGATEWAY_API_KEY to your key, or pass api_key=.",
    "PERMISSION_DENIED": "ask the operator for the permission that the message names.",
    "DEADLINE_EXCEEDED": "the gateway at {target} did not answer in time; repeat, or give the call a longer timeout.",
    "RESOURCE_EXHAUSTED": "a limit is reached: wait and repeat, or ask the operator for a higher limit.",
    "INVALID_ARGUMENT": "correct the fields named above and repeat.",
    "UNIMPLEMENTED": "the server at {target} does not offer the call. Is it a gateway that fits this client?",
    "INTERNAL": "this is a bug of the gateway, or a broken connection: repeat once, then tell the operator.",
    "UNKNOWN": "repeat once, then tell the operator.",
    "DATA_LOSS": "repeat once, then tell the operator.",
}


def what_to_do(reason: str, code: str = "", target: str = "") -> str:
    """Return a line of advice, or nothing if there is none.

    Args:
        reason: UPPER_SNAKE cause.
        code: Name of the gRPC status of a failed call.
        target: Address of the gateway.
    """
    advice = _BY_REASON.get(reason) or _BY_CODE.get(code, "")
    return "What to do: " + advice.format(target=target or "its target") if advice else ""
