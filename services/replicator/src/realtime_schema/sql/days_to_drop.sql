-- Partitions of days whose last row is older than $1, a timestamp. Names sort as their days do.
select c.relname::text as name
  from pg_inherits i
  join pg_class c on c.oid = i.inhrelid
  join pg_namespace n on n.oid = c.relnamespace
  join pg_class parent on parent.oid = i.inhparent and parent.relnamespace = n.oid and parent.relname = 'messages'
 where n.nspname = 'realtime' and c.relname::text ~ '^messages_[0-9]{4}_[0-9]{2}_[0-9]{2}$'
   and c.relname::text collate "C" <= 'messages_' || to_char($1::text::timestamp::date - 1, 'YYYY_MM_DD')
 order by 1
