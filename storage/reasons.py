"""What went wrong with a store and what to do about it, in one line and without a secret.

obstore's errors run to dozens of lines; the first says what was tried, the causes are in the others.
"""

from __future__ import annotations

import re

MAX_REASON = 200
NO_CREDENTIALS = (
    "no credentials in the environment; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, for the workers too"
)
REACHED = {
    "kind: ConnectionRefused": "connection refused",
    "dns error": "no such host",
    "kind: Timeout": "no answer in time",
    "invalid peer certificate": "its certificate is not trusted",
}


def first_line(error: BaseException) -> str:
    """The reason of an error of obstore, or the first line of any other."""
    text = str(error).strip() or type(error).__name__
    if re.search(r"/latest/(api/token|meta-data)|Missing(SecretAccessKey|AccessKeyId)", text):
        return NO_CREDENTIALS
    line = re.sub(r"^Generic \w+ error: ", "", text.splitlines()[0])
    tried = re.search(r"Error performing .*?(https?://[^/\s]+)", line)
    reason = _answered(text, without_secret(tried[1])) if tried else None
    return (reason or without_secret(line))[:MAX_REASON]


def without_secret(text: str) -> str:
    """`//user:password@` cut out of URLs."""
    return re.sub(r"(?<=//)[^/@\s]*@", "", text)


def _answered(text: str, endpoint: str) -> str | None:
    """What the server at an endpoint answered, if it did."""
    code = re.search(r"<Code>(\w+)</Code>", text)
    status = re.search(r"status code: (\d{3}) ?([\w -]*)", text)
    said = ", ".join(filter(None, [f"{status[1]} {status[2]}".strip() if status else "", code[1] if code else ""]))
    if "NoSuchBucket" in said:
        return f"{endpoint} has no such bucket; create it, or check the URL and AWS_ENDPOINT_URL"
    if "RequestTimeTooSkewed" in said:
        return f"{endpoint} does not take this machine's clock, which is more than 15 minutes off; set it"
    if said.startswith(("401", "403")):
        return f"forbidden by {endpoint} ({said}); check the access key and its rights on the bucket"
    if said.startswith("301") or "BareRedirect" in text:
        return f"{endpoint} points to another region; set AWS_REGION to the bucket's"
    if said:
        return f"{endpoint} answered {said}"
    if "HTTP error: " in text:
        why = next((words for mark, words in REACHED.items() if mark in text), "connection lost")
        return f"{endpoint} cannot be reached: {why}; check AWS_ENDPOINT_URL and the network"
    return None
