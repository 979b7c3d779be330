"""
The SQL of the ledger: two SQLite files, ``main`` about this sync and ``earlier`` with the state of records.

``:run`` and ``:settings`` are the numbers of this sync's run and settings in ``earlier.runs`` and
``earlier.settings``, which keep their names out of a million rows.
"""

from __future__ import annotations

EARLIER = """
create table earlier.settings(number integer primary key, name text not null unique);
create table earlier.runs(number integer primary key, name text not null unique);
create table earlier.fields(number integer primary key, name text not null unique);
create table earlier.state(
    id text primary key, digest integer, settings integer not null, run integer not null, failed_digest integer,
    attempts integer not null, outcome text not null, key text, message text, confirmed_at integer,
    fields integer, not_cleared integer, failing_since integer
) without rowid;
create table earlier.confirmed(id text primary key, content text not null) without rowid
"""
"""
``confirmed_at`` and ``failing_since`` are in milliseconds. A digest is 64 bits, with a sign. ``fields`` are those of
which Voucherify has a value of this sync, ``not_cleared`` the ones among them that the source no longer had; both are
numbers of lists in the table ``fields``, whose names are JSON. ``confirmed`` has the JSON that Voucherify confirmed
last, where values are kept.
"""

LOAD_STATE = "insert or replace into earlier.state values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"

SYNC = """
create table about(name text primary key, value text not null);
create table of_project(settings integer primary key);
create table chunks(first integer primary key, ids text not null);
create table rows(item integer primary key, id text not null, digest integer not null, content integer);
create table sent(item integer primary key, content text not null);
create table contents(number integer primary key, name text not null unique);
create table targets(path text primary key, column_name text not null, sends_null integer not null) without rowid;
create table standing(id text primary key) without rowid;
create table clearing(
    content integer, had integer, became integer, not_cleared integer, at_most integer, alone integer,
    primary key (content, had)
) without rowid;
create table unsent(row integer primary key, id text, outcome text not null, key text, message text);
create table held(
    item integer primary key, outcome text not null, key text, message text, details text
) without rowid;
create table failed_before(
    id text primary key, item integer not null, attempts integer not null, key text, message text
) without rowid;
create table present(id text primary key) without rowid;
create table proven(id text primary key, digest integer not null) without rowid;
create table removed(id text primary key, was_confirmed integer not null) without rowid;
create table doubted(id text primary key) without rowid;
create table overtaken(id text primary key) without rowid;
create table named(id text primary key, key text, message text, details text) without rowid;
create table read_back(id text primary key, outcome text not null, message text, details text) without rowid;
create table answers(
    id text primary key, outcome text not null, confirmed integer not null, counted integer not null,
    key text, message text, details text, action text not null
) without rowid
"""
"""
``of_project`` has the settings under which records were made for this sync's project, since another one does not have
them; ``chunks`` the ids of all items, as JSON; ``rows`` the items that are not confirmed as they are; ``unsent`` the
rows that are not items; ``proven`` the records that Voucherify has been found to have as they are; ``held`` the items
that are not sent; ``read_back`` the records that were read back and are not as they were sent; ``overtaken`` ids that
another run may have sent since an earlier try of this one; ``answers`` what Voucherify says of the ids that were.

``contents`` has which fields an item has, with a value or null; ``targets`` which fields the source has a column for;
``standing`` the ids in the source of which Voucherify had a value that was not cleared before; and ``clearing``, of a
content and of what Voucherify had, what it has afterwards (``became``), what of that is not cleared, what it has at
most if nobody knows whether it took the item, and what it has if the item has made a new record (``alone``). ``sent``
has the JSON of the items in ``rows``, where values are kept.
"""

# The source beside the state

COMPARE = """
select json_group_array(s.digest), count(s.not_cleared)
from json_each(:ids) j left join earlier.state s on s.id = j.value
"""
"""For each of some ids the digest of what is confirmed, or null, in order; and how many have values not cleared."""

COMPARE_CLOSELY = """
select json_group_array(case when s.settings = :settings and s.run <> :run then s.digest end), count(s.not_cleared)
from json_each(:ids) j left join earlier.state s on s.id = j.value
"""
"""The same where the state has records of other settings, or of this very run."""

FIND_FAILED_BEFORE = """
insert into failed_before
select id, item, s.attempts - (s.run = :run) as attempts, s.key, s.message
from rows left join held using (item) join earlier.state s using (id)
where held.item is null and s.failed_digest = rows.digest and s.settings = :settings
    and s.attempts > (s.run = :run)
"""
"""Records that are to be sent as they are, and have failed as they are in earlier runs."""

SET_ASIDE = """
insert or ignore into held(item, outcome, key, message)
select item, 'refused', :key, 'failed ' || attempts || case attempts when 1 then ' time' else ' times' end
    || ' with the same content; the last time: ' || coalesce(message, key, 'no reason given')
from failed_before where attempts >= :most and coalesce(key, '') not in (select value from json_each(:expected))
"""

ASIDE = "select item, id, held.message from held join rows using (item) where held.key = :key order by item"

TO_SEND = "select item from rows left join held using (item) where held.item is null order by item"

NOT_SIMPLY_UNCHANGED = """
select (select count(*) from rows) + (select count(*) from held where item not in (select item from rows))
"""

FIND_PROJECT = "insert into of_project select number from earlier.settings where name like :project || '%'"

COUNT_CANDIDATES = """
select count(*), count(confirmed_at) from earlier.state
where (outcome <> 'removed' or run = :run or (:marks and key = 'reported')) and settings in of_project
"""
"""Records that could have left the source: not those that were removed before, but for this run, or unmarked."""

COUNT_KNOWN_IN_SOURCE = """
select :items - (select count(*) from held where outcome = 'superseded') - (
    select count(*) from rows left join held using (item) left join earlier.state s using (id)
    where (s.id is null or s.outcome = 'removed' or s.settings not in of_project)
        and (held.item is null or held.outcome <> 'superseded')
) - (
    select count(*) from proven left join earlier.state s using (id)
    where s.id is null or s.outcome = 'removed' or s.settings not in of_project
)
"""
"""Ids of items that have a state and were not removed: each id has one item that is not superseded."""

FIND_PRESENT = """
delete from present;
insert or ignore into present select value from chunks, json_each(chunks.ids);
insert or ignore into present select id from unsent where id is not null
"""

FIND_REMOVED = """
insert into removed select id, confirmed_at is not null from earlier.state
where (outcome <> 'removed' or run = :run or (:marks and key = 'reported')) and settings in of_project
    and id not in (select id from present)
"""

COUNT_RETURNED = """
select count(*) from rows left join held using (item) join earlier.state s using (id)
where held.item is null and s.outcome = 'removed' and s.key = 'marked' and exists (
    select 1 from json_each(:paths) where value not in (select path from targets)
)
"""

_SENT = """
select id from rows left join held using (item) where held.item is null
union all select id from removed where :marks and was_confirmed
"""

HAS_TO_SEND = f"select exists ({_SENT})"

FIND_DOUBTED = f"insert or ignore into doubted select id from earlier.state where id in ({_SENT})"  # noqa: S608

DOUBT = "update earlier.state set digest = null where id in (select id from doubted) and digest is not null"

# Answers of Voucherify

ANSWER = """
insert or replace into answers
select j.value, :outcome, :confirmed,
    :outcome = 'failed' and (n.id is not null or :counted),
    case when n.id is not null then n.key else :key end,
    case when n.id is not null then n.message else :message end,
    case when n.id is not null then n.details else :details end,
    :action
from json_each(:ids) j left join named n on n.id = j.value
"""
"""The ids of one outcome; those that are not ``named`` share a reason, if there is one."""

NOTE_VERIFIED = """
insert into answers(id, outcome, confirmed, counted, action)
select value, 'not_reported', 1, 0, '' from json_each(?) where true
on conflict(id) do update set confirmed = 1
"""

NOTE_OTHERS = "update answers set confirmed = 0 where id in (select value from json_each(?))"

# Values that became empty and were not cleared

FIND_STANDING = """
insert or ignore into standing
select s.id from json_each(:ids) j join earlier.state s on s.id = j.value where s.not_cleared is not null
"""

_HAD = "coalesce(case when s.settings in (select settings from of_project) then s.fields end, 0)"
"""The fields that this project had of a record before; 0 stands for none."""

FIND_CONTENTS = """
select distinct _HAD_, content
from rows left join held using (item) left join earlier.state s using (id)
where held.item is null and content is not null
""".replace("_HAD_", _HAD)

_CLEARING = f"left join clearing c on c.content = rows.content and c.had = {_HAD}"

NOT_CLEARED = """
select name, sum(records) from (
    select c.not_cleared as number, count(*) as records
    from rows left join held using (item) join answers a using (id) left join earlier.state s using (id) _CLEARING_
    where held.item is null and a.confirmed and a.outcome <> 'created' group by number
    union all
    select s.not_cleared as number, count(*) as records from standing join earlier.state s using (id)
    where id not in (select id from rows left join held using (item) where held.item is null) group by number
) join earlier.fields using (number) group by name
""".replace("_CLEARING_", _CLEARING)

# What became of the rows

OF_ROWS = """
select item, id,
    coalesce(held.outcome, a.outcome, 'not_reported'),
    case when held.item is null then a.key else held.key end,
    case when held.item is null then a.message else held.message end,
    case when held.item is null then a.details else held.details end,
    case when held.item is null then nullif(a.action, '') end,
    case when held.item is null then sent.content end
from rows left join held using (item) left join answers a using (id) left join sent using (item) order by item
"""

OF_HELD = """
select item, (
    select json_extract(ids, '$[' || (item - first) || ']') from chunks where first <= item order by first desc limit 1
), outcome, null, null, null, null, null
from held where item not in (select item from rows) order by item
"""
"""Items that are confirmed as they are, and superseded by another of their id that is not."""

OF_REMOVED = """
select null, id,
    case when not :marks or a.confirmed then 'removed' else coalesce(a.outcome, 'not_reported') end,
    case when not :marks then 'reported' when a.confirmed then 'marked' else a.key end,
    a.message, a.details, a.action, case when :marks then :mark_begin || json_quote(id) || :mark_end end
from removed left join answers a using (id) where was_confirmed order by id
"""

OF_READ_BACK = """
select item, id, b.outcome, null, b.message, b.details, null, null
from rows left join held using (item) join read_back b using (id) where held.item is null order by item
"""

OF_READ_BACK_BESIDES = """
select null, id, outcome, null, message, details from read_back where id not in (select id from rows) order by id
"""
"""Those that are no rows: records that are marked as removed, or that the source does not have."""

COUNT_RECREATED = """
select count(*) from answers a join earlier.state s using (id)
where a.outcome = 'created' and s.confirmed_at is not null and s.outcome <> 'removed' and s.run <> :run
    and s.settings in of_project
"""

HAS_EARLIER_RUNS = """
select exists (select 1 from earlier.state where settings in of_project and run <> :run)
"""

NEWLY_FAILED = """
select id, count(*) over () from (
    select id from answers where outcome = 'failed'
    union select id from unsent where outcome = 'refused' and id is not null
    union select id from held join rows using (item) where held.outcome = 'refused'
) left join earlier.state s using (id)
where s.id is null or s.settings not in of_project or s.run = :run and s.attempts < 2
    or s.failing_since is null and s.outcome not in ('failed', 'refused')
order by id limit :most
"""
"""
What an earlier try of the same run has written over is known by its attempts alone: a row that such a try has refused
counts as new.
"""

# The state afterwards

FORGET_CONTENTS_OF_PROVEN = """
delete from earlier.confirmed where id in (
    select id from proven p left join earlier.state s using (id) where s.digest is not p.digest
)
"""

TAKE_PROVEN = """
insert or replace into earlier.state
select id, p.digest, :settings, :run, null, 0, 'updated', null, null, :now, s.fields, s.not_cleared, null
from proven p left join earlier.state s using (id)
"""

TAKE_ANSWERS = """
insert or replace into earlier.state
select id,
    case when a.confirmed then rows.digest end,
    case when a.confirmed or a.counted then :settings else coalesce(s.settings, :settings) end,
    case when a.confirmed or a.counted then :run else coalesce(s.run, :run) end,
    case when a.counted then rows.digest when not coalesce(a.confirmed, 0) then s.failed_digest end,
    case when a.confirmed then 0
         when not coalesce(a.counted, 0) then coalesce(s.attempts, 0)
         when s.failed_digest = rows.digest and s.settings = :settings then s.attempts + (s.run <> :run)
         else 1 end,
    coalesce(a.outcome, 'not_reported'), a.key, a.message,
    case when a.confirmed then :now else s.confirmed_at end,
    case when a.confirmed and a.outcome = 'created' then c.alone when a.confirmed then c.became
         when a.counted then s.fields else c.at_most end,
    case when not coalesce(a.confirmed, 0) then s.not_cleared when a.outcome <> 'created' then c.not_cleared end,
    case when a.outcome = 'failed' then coalesce(s.failing_since, :now)
         when not coalesce(a.confirmed, 0) then s.failing_since end
from rows left join held using (item) left join answers a using (id) left join earlier.state s using (id) _CLEARING_
where held.item is null
""".replace("_CLEARING_", _CLEARING)

TAKE_REFUSED = """
insert or replace into earlier.state
select u.id, null, coalesce(s.settings, :settings), :run, s.failed_digest, coalesce(s.attempts, 0),
    'refused', u.key, u.message, s.confirmed_at, s.fields, s.not_cleared, coalesce(s.failing_since, :now)
from unsent u left join earlier.state s using (id)
where u.outcome = 'refused' and u.id is not null and u.id not in (select id from answers)
    and u.row = (select max(row) from unsent last where last.id = u.id and last.outcome = 'refused')
    and (s.digest is null or u.id not in (select value from chunks, json_each(chunks.ids)))
"""
"""One row of an id may be refused while another is confirmed as it is."""

TAKE_REMOVED = """
update earlier.state
set outcome = 'removed', key = case when :marks then 'marked' else 'reported' end, message = null, digest = null,
    run = :run, failing_since = null
where id in (
    select id from removed left join answers a using (id)
    where not :marks or not was_confirmed or a.confirmed or a.outcome = 'failed' and a.key = 'not_found'
)
"""
"""A record that Voucherify does not have any more cannot be marked, and need not be."""

UPDATE_STATE = (FORGET_CONTENTS_OF_PROVEN, TAKE_PROVEN, TAKE_ANSWERS, TAKE_REFUSED, TAKE_REMOVED)

TAKE_CONTENTS = """
insert or replace into earlier.confirmed
select id, sent.content
from rows join sent using (item) left join held using (item) join answers a using (id)
where held.item is null and a.confirmed
"""

FORGET_CONTENTS = "delete from earlier.confirmed where id in (select id from answers where confirmed)"
"""Where values are not kept any more, that which they were is not known of what has been sent since."""

CHANGED_STATES = """
select s.id, settings.name, digest, failed_digest, attempts, outcome, key, message, runs.name, confirmed_at / 1000.0,
    f.name, n.name, failing_since / 1000.0, c.content
from earlier.state s join earlier.settings on settings.number = s.settings join earlier.runs on runs.number = s.run
    left join earlier.fields f on f.number = s.fields left join earlier.fields n on n.number = s.not_cleared
    left join earlier.confirmed c on c.id = s.id
where s.run = :run or s.id in (select id from doubted) order by s.id
"""
