"""Questions about what bulk updates do to records and their metadata, and about records that are wrong."""

from __future__ import annotations

from airflow_provider_voucherify.probe.answers import Observation, Question, failed, listing, outcome, refusal, words
from airflow_provider_voucherify.probe.facts import Facts, NoReading
from airflow_provider_voucherify.probe.rounds import RESOURCES

_METADATA, _RESULT, _WRONG = "Metadata", "What a result means", "Requests that are wrong"
_MERGE = {
    "merged": "members that were not sent stay",
    "replaced": "members that were not sent are gone",
}
_STATUS = ("DONE/SUCCESS", "DONE/FAILED", "DONE/UNKNOWN", "DONE/none", "FAILED/FAILED")
_WORDS = dict.fromkeys(_STATUS, "")
_TAKEN = {"accepted": "an async action is queued", "refused": "the request is an error"}


def _merge(resource: str, form: str) -> Question:
    call = f"{resource}/{form}"
    sent, before = ("bulk", {"seeded"}) if form == "bulk" else ("shared", set())

    def observe(facts: Facts) -> Observation:
        earlier = before or set(facts.metadata(f"record after {resource}/bulk") or ())
        facts.action(call)
        after = set(facts.metadata(f"record after {call}") or ())
        evidence = f"before: {listing(earlier)}; sent: {sent}; after: {listing(after)}"
        if sent not in after or not earlier:
            raise NoReading(f"the update did not arrive ({outcome(facts, call)}); {evidence}", asked=True)
        return Observation("merged" if earlier <= after else "replaced", evidence)

    return Question(
        f"Does `{call}/async` merge metadata?",
        "a record with metadata gets another member, and is read",
        _MERGE,
        observe,
        _METADATA,
        "whether a bulk update merges",
    )


def _null_member(facts: Facts) -> Observation:
    if (answer := facts.answered("null member")).refused:
        return Observation("refused", refusal(answer))
    evidence = outcome(facts, "null member")
    if failed(facts, "null member"):
        return Observation("failed", evidence)
    after = facts.metadata("record after null member") or {}
    evidence += f"; after: {listing(after)}"
    if "sent" not in after:
        raise NoReading(f"the update did not arrive; {evidence}", asked=True)
    if "cleared" not in after:
        return Observation("removed", evidence)
    return Observation("stored" if after["cleared"] is None else "kept", evidence)


def _null_metadata(facts: Facts) -> Observation:
    if (answer := facts.answered("null metadata")).refused:
        return Observation("refused", refusal(answer))
    evidence = outcome(facts, "null metadata")
    if failed(facts, "null metadata"):
        return Observation("failed", evidence)
    after = facts.metadata("record after null metadata")
    if after is None:
        return Observation("stored", evidence)
    return Observation("kept" if after else "cleared", f"{evidence}; after: {listing(after)}")


def _wrong_record(facts: Facts) -> Observation:
    if (answer := facts.answered("partly wrong")).refused:
        return Observation("refused", refusal(answer))
    evidence = outcome(facts, "partly wrong")
    return Observation("failed" if failed(facts, "partly wrong") else "taken as right", evidence)


def _partly_failed(facts: Facts) -> str:
    """Return the request of which one of two records failed."""
    for request in ("partly wrong", "unknown code"):
        if not facts.answered(request).refused and failed(facts, request):
            return request
    raise NoReading("no request failed in part", asked=True)


def _partial_status(facts: Facts) -> Observation:
    request = _partly_failed(facts)
    return Observation(words(facts.action(request)), f"of the request {request!r}")


def _partial_counts(facts: Facts) -> Observation:
    request = _partly_failed(facts)
    result = facts.result(request)
    counts = result.get("done_count"), result.get("failed_count")
    readings = {(1, 1): "split", (2, 0): "all_done", (None, None): "none"}
    return Observation(readings.get(counts, f"{counts[0]} done, {counts[1]} failed"), outcome(facts, request))


def _total_status(facts: Facts) -> Observation:
    for request in ("all wrong", "unknown code"):
        if not facts.answered(request).refused:
            break
    if request == "unknown code" or not failed(facts, request):
        raise NoReading(f"no request failed as a whole ({facts.answered('all wrong')})", asked=True)
    return Observation(words(facts.action(request)), outcome(facts, request))


def _unknown_code(facts: Facts) -> Observation:
    if (answer := facts.answered("unknown code")).refused:
        return Observation("refused", refusal(answer))
    evidence = outcome(facts, "unknown code")
    if failed(facts, "unknown code"):
        return Observation("failed", evidence)
    if facts.result("unknown code").get("done_count") == 2:
        return Observation("done", evidence)
    raise NoReading(f"nothing is said of it ({evidence})", asked=True)


def _same_id_twice(facts: Facts) -> Observation:
    if (answer := facts.answered("same id twice")).refused:
        return Observation("refused", refusal(answer))
    evidence = outcome(facts, "same id twice")
    if failed(facts, "same id twice"):
        return Observation("failed", evidence)
    place = (facts.metadata("record after same id twice") or {}).get("place")
    return Observation({"1": "first", "2": "last"}.get(str(place), f"neither ({place})"), evidence)


def _taken(request: str) -> Question:
    def observe(facts: Facts) -> Observation:
        answer = facts.answered(request)
        return Observation("refused" if answer.refused else "accepted", refusal(answer))

    call = "customers/bulk" if request == "no records" else "customers/metadata"
    return Question(
        f"What does `{call}/async` do with an empty list?",
        "an empty list is sent",
        _TAKEN,
        observe,
        _WRONG,
        "what an empty list does",
    )


def _other_case(facts: Facts) -> Observation:
    answer = facts.answered("other case")
    evidence = outcome(facts, "other case")
    if "other_case" in (facts.metadata("record after other case") or {}):
        return Observation("same", evidence)
    if answer.refused and answer.status != 404:
        raise NoReading(f"the request was refused ({answer})", asked=True)
    return Observation("different", evidence)


def _metadata_result(facts: Facts) -> Observation:
    result = facts.result("customers/metadata")
    kind = "counts" if "done_count" in result else "errors_only" if "errors" in result else "neither"
    return Observation(kind, f"members: {listing(result)}")


QUESTIONS = (
    *(_merge(resource, form) for form in ("bulk", "metadata") for resource in RESOURCES),
    Question(
        "What does null do as a member of metadata?",
        "`customers/bulk/async` sends null for a member that has a value",
        {
            "stored": "it is stored as null",
            "removed": "the member is gone",
            "kept": "the old value stays",
            "failed": "the record fails",
            "refused": "the request is an error",
        },
        _null_member,
        _METADATA,
        "whether bulk updates do with `null`",
    ),
    Question(
        "What does null do as the whole metadata?",
        "`customers/bulk/async` sends a customer with `metadata: null`",
        {
            "cleared": "all members are gone",
            "stored": "metadata is null",
            "kept": "nothing changes",
            "failed": "the record fails",
            "refused": "the request is an error",
        },
        _null_metadata,
        _METADATA,
        "what `null` as the whole `metadata` does",
    ),
    Question(
        "Does one wrong record refuse its request?",
        "`customers/bulk/async` gets a right record and one whose metadata is a text",
        {"failed": "the record fails alone", "refused": "the request is an error"},
        _wrong_record,
        _WRONG,
        "whether one bad record still refuses",
    ),
    Question(
        "Which status and operation status has a partly failed update?",
        "that request, or one with an unknown voucher code",
        _WORDS,
        _partial_status,
        _RESULT,
        "which `status` and `operation_status` a partly failed",
    ),
    Question(
        "What does a partly failed update count?",
        "the same",
        {
            "split": "the failed record as failed",
            "all_done": "all records as done",
            "none": "nothing: there are no counts",
        },
        _partial_counts,
        _RESULT,
        "which `status` and `operation_status` a partly failed",
    ),
    Question(
        "Which status and operation status has an update whose every record failed?",
        "`customers/bulk/async` gets the wrong record alone",
        _WORDS,
        _total_status,
        _RESULT,
        "which a failed one has",
    ),
    Question(
        "Do results of `metadata/async` have counts?",
        "the result of `customers/metadata/async` is read",
        {"counts": "they do", "errors_only": "they have errors alone"},
        _metadata_result,
        _RESULT,
        "whether results of `metadata/async` have counts",
    ),
    Question(
        "How does an unknown voucher code count?",
        "`vouchers/bulk/async` gets one code that exists and one that does not",
        {"failed": "as failed", "done": "as done", "refused": "the request is an error"},
        _unknown_code,
        _RESULT,
        "whether an unknown voucher code counts",
    ),
    Question(
        "What do two records with one id in a request do?",
        "`customers/bulk/async` sets one member to 1 and to 2",
        {
            "last": "the last one wins",
            "first": "the first one wins",
            "failed": "records fail",
            "refused": "the request is an error",
        },
        _same_id_twice,
        _WRONG,
        "what two records with the same id",
    ),
    _taken("no records"),
    _taken("no ids"),
    Question(
        "Are voucher codes that differ in case one voucher?",
        "`vouchers/bulk/async` gets an existing code in lower case",
        {"different": "no", "same": "yes"},
        _other_case,
        _WRONG,
        "whether `abc` and `ABC` are one voucher",
    ),
)
