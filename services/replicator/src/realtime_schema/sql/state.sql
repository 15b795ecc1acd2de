-- One row: what there is of the schema. By the catalog alone, since names are not resolved without rights on the schema.
with realtime as (select oid from pg_namespace where nspname = 'realtime'),
messages as (
    select c.oid, c.relkind::text as kind, p.partdefid,
           p.partstrat = 'r' and p.partnatts = 1 and exists (
               select from pg_attribute a
                where a.attrelid = c.oid and a.attname = 'inserted_at' and a.attnum = p.partattrs[0]) as by_day
      from pg_class c
      left join pg_partitioned_table p on p.partrelid = c.oid
     where c.relnamespace = (select oid from realtime) and c.relname = 'messages'),
publication as (select oid, puballtables from pg_publication where pubname = $1),
published as (
    select puballtables
           or exists (select from pg_publication_rel r where r.prpubid = publication.oid and r.prrelid = (select oid from messages))
           or exists (select from pg_publication_namespace n
                       where n.pnpubid = publication.oid and n.pnnspid = (select oid from realtime)) as messages
      from publication)
select exists (select from realtime) as schema,
       (select kind from messages) as kind,
       coalesce((select by_day from messages), false) as by_day,
       coalesce((select partdefid <> 0 from messages), false) as has_default,
       array(select attname::text from pg_attribute
              where attrelid = (select oid from messages) and attnum > 0 and not attisdropped) as columns,
       array(select proname || '(' || array_to_string(proargtypes::oid[], ',') || ')' from pg_proc
              where pronamespace = (select oid from realtime)) as functions,
       exists (select from publication) as publication,
       coalesce((select messages from published), false) as published,
       array(select rolname::text from pg_roles
              where rolname in ('anon', 'authenticated', 'service_role')
                and not has_schema_privilege(oid, (select oid from realtime), 'usage')
              order by 1) as roles
