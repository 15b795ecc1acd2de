create function realtime.topic() returns text
language sql stable
as $function$
select nullif(current_setting('realtime.topic', true), '')::text;
$function$;
