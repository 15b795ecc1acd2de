-- A message that cannot be stored is a warning: it must not undo what the sender is about.
create function realtime.send(payload jsonb, event text, topic text, private boolean default true) returns void
language plpgsql
as $function$
declare
    message_id uuid := pg_catalog.gen_random_uuid();
    sent jsonb := payload;
begin
    begin
        -- A payload that has an id keeps it.
        if (payload operator(pg_catalog.?) 'id') is not true then
            sent := pg_catalog.jsonb_set(payload, '{id}', pg_catalog.to_jsonb(message_id));
        end if;
        -- For policies that ask for `realtime.topic()`.
        perform pg_catalog.set_config('realtime.topic', topic, true);
        insert into realtime.messages (id, payload, event, topic, private, extension)
        values (message_id, sent, event, topic, private, 'broadcast');
    exception
        when others then
            raise warning 'WarnSendingBroadcastMessage: %', sqlerrm;
    end;
end;
$function$;
