-- Days (UTC) from the one before $1, in seconds since 1970, to three after it that have no partition.
select 'messages_' || to_char(day, 'YYYY_MM_DD') as name, day::date::text as first, (day + interval '1 day')::date::text as next
  from (select date_trunc('day', to_timestamp($1) at time zone 'utc') as today) clock,
       generate_series(today - interval '1 day', today + interval '3 days', interval '1 day') day
 where not exists (
    select from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where n.nspname = 'realtime' and c.relname = 'messages_' || to_char(day, 'YYYY_MM_DD'))
 order by day
