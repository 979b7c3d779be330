"""The moments at which a sync is interrupted, and by what."""

from __future__ import annotations

BEFORE_THE_FIRST_POST = "before the first post"
BETWEEN_INTENT_AND_POST = "between intent and post"
ACCEPTED = "accepted, before the answer"
BETWEEN_ANSWER_AND_JOURNAL = "between answer and journal"
BETWEEN_BATCHES = "between batches"
BEFORE_DEFERRING = "just before deferring"
IN_THE_TRIGGERER = "in the triggerer while waiting"
AFTER_THE_EVENT = "after the event"
WHILE_DOWNLOADING = "while downloading the report"
WITH_ITS_SUPERVISOR = "the supervisor with its task, between batches"

SCHEDULER_WHILE_SENDING = "the scheduler alone, while a task sends"
DATABASE_WHILE_SENDING = "metadata database restarted while a task sends"
DATABASE_WHILE_WAITING = "metadata database restarted while a task waits"

CLEARED_WHILE_SENDING = "cleared while it sends"
CLEARED_WHILE_WAITING = "cleared while it waits in the triggerer"
CLEARED_BETWEEN_TRIES = "cleared between two tries"
CLEARED_AFTER_FAILURE = "cleared after it failed for good"
CLEARED_AFTER_SUCCESS = "cleared after success"
CLEARED_WITH_FEWER_RETRIES = "cleared after success, and retries lowered by one"

KILLS = (
    BEFORE_THE_FIRST_POST,
    BETWEEN_INTENT_AND_POST,
    ACCEPTED,
    BETWEEN_ANSWER_AND_JOURNAL,
    BETWEEN_BATCHES,
    BEFORE_DEFERRING,
    AFTER_THE_EVENT,
    WHILE_DOWNLOADING,
    WITH_ITS_SUPERVISOR,
    IN_THE_TRIGGERER,
)
"""SIGKILL of what runs the task, or waits for it."""

OUTAGES = (SCHEDULER_WHILE_SENDING, DATABASE_WHILE_SENDING, DATABASE_WHILE_WAITING)
"""What the whole cluster suffers from."""

CLEARS = (
    CLEARED_WHILE_SENDING,
    CLEARED_WHILE_WAITING,
    CLEARED_BETWEEN_TRIES,
    CLEARED_AFTER_FAILURE,
    CLEARED_AFTER_SUCCESS,
    CLEARED_WITH_FEWER_RETRIES,
)
"""What a person does who wants a sync done again."""

CLEARED_WHEN_ALL_WAS_SENT = (CLEARED_WHILE_WAITING, CLEARED_AFTER_SUCCESS, CLEARED_WITH_FEWER_RETRIES)
"""Of these, those at which every batch has been sent."""

PAUSED = (SCHEDULER_WHILE_SENDING, DATABASE_WHILE_SENDING, CLEARED_WHILE_SENDING)
"""Moments at which the task stops half-way until it has been interrupted."""

HALF_WAY = (BETWEEN_BATCHES, WITH_ITS_SUPERVISOR, *PAUSED, CLEARED_BETWEEN_TRIES, CLEARED_AFTER_FAILURE)
"""Moments that come when half of the batches have been sent."""

STATES = {
    IN_THE_TRIGGERER: "deferred",
    DATABASE_WHILE_WAITING: "deferred",
    CLEARED_WHILE_WAITING: "deferred",
    CLEARED_BETWEEN_TRIES: "up_for_retry",
    CLEARED_AFTER_FAILURE: "failed",
    CLEARED_AFTER_SUCCESS: "success",
    CLEARED_WITH_FEWER_RETRIES: "success",
}
"""The state of the task instance by which a moment is known."""
