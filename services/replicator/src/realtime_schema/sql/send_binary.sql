create function realtime.send_binary(payload bytea, event text, topic text, private boolean default true) returns void
language plpgsql
as $function$
begin
    begin
        perform pg_catalog.set_config('realtime.topic', topic, true);
        insert into realtime.messages (id, binary_payload, event, topic, private, extension)
        values (pg_catalog.gen_random_uuid(), payload, event, topic, private, 'broadcast');
    exception
        when others then
            raise warning 'WarnSendingBroadcastMessage: %', sqlerrm;
    end;
end;
$function$;
