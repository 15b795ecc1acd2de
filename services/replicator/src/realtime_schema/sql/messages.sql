-- Columns in the order that existing databases have them in, since some clients insert without naming them.
-- Times are UTC whatever the session's time zone, and the clock's rather than the transaction's: rows of one transaction
-- then keep their order when they are read back.
create table realtime.messages (
    topic text not null,
    extension text not null,
    payload jsonb,
    event text,
    private boolean default false,
    updated_at timestamp not null default (pg_catalog.clock_timestamp() at time zone 'utc'),
    inserted_at timestamp not null default (pg_catalog.clock_timestamp() at time zone 'utc'),
    id uuid not null default pg_catalog.gen_random_uuid(),
    binary_payload bytea,
    -- Stored for those who come later only: whoever was there has had it already.
    skip_broadcast boolean not null default false,
    primary key (id, inserted_at),
    constraint messages_payload_exclusive check (payload is null or binary_payload is null)
) partition by range (inserted_at);
alter table realtime.messages enable row level security;
-- What replaying the newest messages of a topic reads.
create index messages_inserted_at_topic_index on realtime.messages (inserted_at desc, topic)
    where extension = 'broadcast' and private is true;
