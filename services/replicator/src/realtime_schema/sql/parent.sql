-- The partitioned table, when it is one that days can be partitions of: its owner when that is not us, its default
-- partition, and $1 (seconds since 1970) less what is kept.
select case when c.relowner <> (select oid from pg_roles where rolname = current_user)
            then quote_ident(pg_get_userbyid(c.relowner)) end as owner,
       (select quote_ident(dn.nspname) || '.' || quote_ident(d.relname)
          from pg_class d join pg_namespace dn on dn.oid = d.relnamespace where d.oid = p.partdefid) as default_partition,
       ((to_timestamp($1) at time zone 'utc') - interval '72 hours')::text as cutoff
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  join pg_partitioned_table p on p.partrelid = c.oid
  join pg_attribute a on a.attrelid = c.oid and a.attname = 'inserted_at' and a.attnum = p.partattrs[0]
 where n.nspname = 'realtime' and c.relname = 'messages' and p.partstrat = 'r' and p.partnatts = 1
